//! A real haproxy in front of hoptrail, and behind it the MTAs that take the PROXY protocol: whichever version of it
//! is spoken on either side, the MTA knows the client, and a stranger gets nothing relayed.
//!
//! ```text
//! client ─▶ haproxy ─ PROXY ─▶ ingress ─ PROXY ─▶ MTA ─▶ sink
//! ```

#![allow(clippy::expect_used)]

mod support;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddrV4};

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::lab::{Daemon, State, package};
use support::mail::{MESSAGE, wire};
use support::mta::{Mta, start_all};
use support::net;
use support::sink::Sink;

/// How a balancer in front of the balancer presents somebody whom no MTA here knows.
const STRANGER: &str = "PROXY TCP4 192.0.2.77 198.51.100.25 4321 25\r\n";

/// An ingress and what is around it.
struct Way<'a> {
    mta: &'a Mta,
    /// How the MTA's log writes an address.
    logged: fn(IpAddr) -> String,
    ingress: SocketAddrV4,
    /// Of haproxy, for clients; one speaks version 1 to the ingress, one version 2.
    entrances: [SocketAddrV4; 2],
}

impl<'a> Way<'a> {
    fn to(mta: &'a Mta, logged: fn(IpAddr) -> String) -> Self {
        Self {
            mta,
            logged,
            ingress: net::address(),
            entrances: [net::address(), net::address()],
        }
    }
}

/// haproxy's, for balancers in front of it.
fn back_door(entrance: SocketAddrV4) -> SocketAddrV4 {
    SocketAddrV4::new(*entrance.ip(), entrance.port() + 1000)
}

fn haproxy(ways: &[Way<'_>]) -> Daemon {
    let mut text =
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
            .to_owned();
    for way in ways {
        for (entrance, send) in way.entrances.iter().zip(["send-proxy", "send-proxy-v2"]) {
            let (door, ingress) = (back_door(*entrance), way.ingress);
            let _ = write!(
                text,
                "listen {entrance}\n  bind {entrance}\n  bind {door} accept-proxy\n  server hop {ingress} {send} check\n",
            );
        }
    }
    let state = State::new();
    state.write("etc/haproxy.cfg", &text);
    let command = ["haproxy", "-db", "-f", "/etc/haproxy.cfg"];
    Daemon::start(
        &package("peers", "haproxy"),
        "balancer.test",
        ways[0].entrances[0],
        state,
        &command,
        &[],
    )
}

#[test]
fn behind_a_real_balancer_real_mtas_know_the_client_and_relay_for_no_stranger() {
    let sink = Sink::smtp().offer("8BITMIME").start();
    let [postfix, exim, opensmtpd] = start_all([
        Mta::postfix("mx1.test")
            .next_hop(sink.next_hop())
            .setting("smtpd_upstream_proxy_protocol = haproxy"),
        Mta::exim("mx2.test")
            .next_hop(sink.next_hop())
            .setting("hosts_proxy = 127.0.0.0/8"),
        Mta::opensmtpd("mx3.test")
            .next_hop(sink.next_hop())
            .setting("proxy-v2"),
    ]);
    let bracketed = |ip: IpAddr| format!("[{ip}]");
    let equals = |ip: IpAddr| format!("address={ip}");
    let ways = [
        ("proxy-v1", Way::to(&postfix, bracketed)),
        ("proxy-v2", Way::to(&postfix, bracketed)),
        ("proxy-v1", Way::to(&exim, bracketed)),
        ("proxy-v2", Way::to(&exim, bracketed)),
        ("proxy-v2", Way::to(&opensmtpd, equals)),
    ];
    let mut config = "hostname = 'hop.test'\n[reports]\nfrom = 'hoptrail@hop.test'\nvia = 'maildir:/nonexistent'\n".to_owned();
    for (how, way) in &ways {
        let _ = write!(
            config,
            "[[listener]]\nrole = 'ingress'\nlisten = '{}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
             client_address = '{how}'\nproxy_from = ['127.0.0.1']\n",
            way.ingress,
            way.mta.address()
        );
    }
    let _hoptrail = Hoptrail::serve(&config);
    let ways = ways.map(|(_, way)| way);
    let _haproxy = haproxy(&ways);
    let mut sent = 0;
    for way in &ways {
        for entrance in way.entrances {
            let client = *net::address().ip();
            let mut known = Dialogue::connect_from(client, entrance);
            known.expect("220");
            known.submit("alice@origin.test", &["bob@dest.test"], &wire(MESSAGE));
            sent += 1;
            assert_eq!(sink.wait_for(sent)[sent - 1].mail().below_trace(), MESSAGE);
            way.mta.daemon().wait_for_log(&(way.logged)(client.into()));

            let mut stranger = Dialogue::connect(back_door(entrance));
            stranger.send(STRANGER);
            stranger.expect("220");
            stranger.command("EHLO stranger.test", "250");
            stranger.command("MAIL FROM:<alice@origin.test>", "250");
            stranger.command("RCPT TO:<bob@dest.test>", "5");
        }
        way.mta
            .daemon()
            .wait_for_log(&(way.logged)(IpAddr::from([192, 0, 2, 77])));
    }
    assert_eq!(sink.transactions().len(), sent);
}
