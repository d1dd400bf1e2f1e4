//! Clients, MTAs and balancers over IPv6, and a socket that serves both families: the MTA knows the client as what it
//! is, however it is told.

#![allow(clippy::expect_used)]

mod support;

use std::fmt::Write;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mail::{MESSAGE, wire};
use support::mta::{Mta, start_all};
use support::net;
use support::sink::Sink;

/// One client of the balancer that the MTA trusts, and one that it does not.
const KNOWN: &str = "PROXY TCP6 2001:db8:1::9 2001:db8::25 4321 25\r\n";
const STRANGER: &str = "PROXY TCP6 2001:db8:2::77 2001:db8::25 4321 25\r\n";

fn postfix(sink: &Sink, setting: &str, also: SocketAddrV6) -> support::mta::Setup {
    Mta::postfix("mx1.test")
        .next_hop(sink.next_hop())
        .listen_also(also)
        .setting("inet_protocols = all")
        .setting("smtp_address_preference = ipv4")
        .setting("inet_interfaces = 127.0.0.1, [::1]")
        .setting("mynetworks = 127.0.0.0/8, [::1]/128, [2001:db8:1::]/48")
        .setting(setting)
}

/// A configuration with one ingress for each of these: where it listens, what stands behind it, and more of it.
fn config(listeners: &[(SocketAddrV6, SocketAddr, String)]) -> String {
    let mut text = "hostname = 'hop.test'\n[reports]\nfrom = 'hoptrail@hop.test'\nvia = 'maildir:/nonexistent'\n".to_owned();
    for (listen, mta, more) in listeners {
        let _ = write!(
            text,
            "[[listener]]\nrole = 'ingress'\nlisten = '{listen}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{mta}'\n{more}\n"
        );
    }
    text
}

fn submit(client: &mut Dialogue) {
    client.expect("220");
    client.submit("alice@origin.test", &["bob@dest.test"], &wire(MESSAGE));
}

#[test]
fn a_real_postfix_knows_the_client_by_its_ipv6_address() {
    let sink = Sink::smtp().offer("8BITMIME").start();
    let also = [net::address_v6(), net::address_v6()];
    let [proxied, told] = start_all([
        postfix(&sink, "smtpd_upstream_proxy_protocol = haproxy", also[0]),
        postfix(
            &sink,
            "smtpd_authorized_xclient_hosts = 127.0.0.0/8, [::1]/128",
            also[1],
        ),
    ]);
    let mut listeners = Vec::new();
    for (how, mta, also) in [
        ("proxy-v1", &proxied, also[0]),
        ("proxy-v2", &proxied, also[0]),
        ("xclient", &told, also[1]),
    ] {
        for to in [SocketAddr::from(mta.address()), also.into()] {
            for from in ["", "'::1'"] {
                let more = format!("client_address = '{how}'\nproxy_from = [{from}]");
                listeners.push((net::address_v6(), to, more));
            }
        }
    }
    let _hoptrail = Hoptrail::serve(&config(&listeners));
    for pair in listeners.chunks(2) {
        let (direct, balanced) = (pair[0].0, pair[1].0);
        submit(&mut Dialogue::connect(direct));
        let mut known = Dialogue::connect(balanced);
        known.send(KNOWN);
        submit(&mut known);
        let mut stranger = Dialogue::connect(balanced);
        stranger.send(STRANGER);
        stranger.expect("220");
        stranger.command("EHLO stranger.test", "250");
        stranger.command("MAIL FROM:<alice@origin.test>", "250");
        stranger.command("RCPT TO:<bob@dest.test>", "554 5.7.1");
    }
    for seen in sink.wait_for(listeners.len()) {
        assert_eq!(seen.mail().below_trace(), MESSAGE);
    }
    // Two versions of PROXY, or XCLIENT, to each of two addresses.
    for (mta, ways) in [(&proxied, 4), (&told, 2)] {
        for ip in ["::1", "2001:db8:1::9"] {
            let words = format!("client=unknown[{ip}]");
            let log = mta.daemon().wait_for_log_times(&words, ways);
            assert_eq!(log.matches(&words).count(), ways, "{words} in\n{log}");
        }
        mta.daemon()
            .wait_for_log("RCPT from unknown[2001:db8:2::77]: 554");
    }
}

#[test]
fn a_socket_for_both_families_takes_an_ipv4_client_for_one() {
    let sink = Sink::smtp().offer("8BITMIME").start();
    let proxied = Mta::postfix("mx1.test")
        .next_hop(sink.next_hop())
        .setting("smtpd_upstream_proxy_protocol = haproxy")
        .start();
    let all = |how: &str| {
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, net::address_v6().port(), 0, 0);
        let more = format!("client_address = '{how}'\npolicy = {{ allow = ['127.0.0.0/8'] }}");
        (any, proxied.address().into(), more)
    };
    let listeners = [all("proxy-v1"), all("proxy-v2")];
    let _hoptrail = Hoptrail::serve(&config(&listeners));
    for (listen, ..) in &listeners {
        let client = *net::address().ip();
        let mut old = Dialogue::connect_from(client, SocketAddrV4::new(client, listen.port()));
        submit(&mut old);
        assert!(
            old.transcript().contains("TRACK NOW"),
            "{}",
            old.transcript()
        );
        proxied
            .daemon()
            .wait_for_log(&format!("client=unknown[{client}]"));
    }
    assert_eq!(sink.wait_for(listeners.len()).len(), listeners.len());
}
