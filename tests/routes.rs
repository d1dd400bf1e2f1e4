//! Where an egress sends mail: a table by domain, MX records out of a name server of the test's own, several
//! next hops for one message.

#![allow(clippy::expect_used)]

mod support;

use std::net::{Ipv4Addr, SocketAddrV4};

use support::dialogue::Dialogue;
use support::dns::{Dns, Zone};
use support::hoptrail::Hoptrail;
use support::net;
use support::sink::{Script, Sink};

const MESSAGE: &[u8] = b"Message-ID: <m1@origin.test>\r\n\r\n..dot\r\nlast\r\n";

struct Egress {
    _hoptrail: Hoptrail,
    exit: SocketAddrV4,
}

impl Egress {
    fn with(protocol: &str, resolver: Option<&Dns>, next_hop: &str, routes: &str) -> Self {
        let exit = net::address();
        let resolver = resolver
            .map(|dns| format!("resolver = '{}'", dns.address()))
            .unwrap_or_default();
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'mx1.test'\n{resolver}\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
             [timeouts]\nconnect_s = 2\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = '{protocol}'\n\
             next_hop = '{next_hop}'\nroutes = {{ {routes} }}\n"
        ));
        Self {
            _hoptrail: hoptrail,
            exit,
        }
    }

    fn send(&self, rcpts: &[&str]) -> Vec<String> {
        let mut mta = self.transaction("MAIL FROM:<alice@origin.test>", rcpts);
        mta.command("DATA", "354");
        mta.send([MESSAGE, b".\r\n"].concat());
        rcpts.iter().map(|_| mta.reply().join("\n")).collect()
    }

    fn send_chunks(&self, mail: &str, rcpts: &[&str], chunks: &[&[u8]]) -> Vec<String> {
        let mut mta = self.transaction(mail, rcpts);
        mta.chunks(chunks);
        rcpts.iter().map(|_| mta.reply().join("\n")).collect()
    }

    fn transaction(&self, mail: &str, rcpts: &[&str]) -> Dialogue {
        let mut mta = Dialogue::open(self.exit);
        mta.command("LHLO mta.test", "250");
        mta.command(mail, "250");
        for rcpt in rcpts {
            mta.command(&format!("RCPT TO:<{rcpt}>"), "250");
        }
        mta
    }
}

/// A mail server on the port of mail between domains, on an address of its own.
fn on_port_25(script: Script) -> (Sink, Ipv4Addr) {
    let address = SocketAddrV4::new(*net::address().ip(), 25);
    (script.listen(address).start(), *address.ip())
}

/// A name server by which the domain `dest.test` has two hosts: this one first, then that.
fn two_hosts(first: Ipv4Addr, second: Ipv4Addr) -> Dns {
    Zone::default()
        .mx("dest.test", 10, "mx1.dest.test")
        .mx("dest.test", 20, "mx2.dest.test")
        .a("mx1.dest.test", first)
        .a("mx2.dest.test", second)
        .start()
}

#[test]
fn one_message_fans_out_by_domain_and_each_recipient_gets_his_own_reply() {
    let a = Sink::smtp()
        .always("DOT", "250 2.0.0 queued as AAAA1111")
        .start();
    let b = Sink::lmtp()
        .once("DOT <bob2@b.test", "452 4.2.2 full")
        .start();
    let c = Sink::smtp().always("MAIL", "550 5.7.1 not you").start();
    let routes = format!(
        "'b.test' = '{}', '.c.test' = '{}'",
        b.next_hop(),
        c.next_hop()
    );
    let egress = Egress::with("lmtp", None, &a.next_hop().to_string(), &routes);
    let replies = egress.send(&[
        "x@c.test",
        "bob1@b.test",
        "deep@x.c.test",
        "bob2@B.TEST",
        "y@c.test",
    ]);
    assert_eq!(
        replies,
        [
            "250 2.0.0 queued as AAAA1111",
            "250 2.0.0 ok, taken",
            "550 5.7.1 not you",
            "452 4.2.2 full",
            "250 2.0.0 queued as AAAA1111"
        ]
    );
    assert_eq!(
        a.wait_for(1)[0].recipients,
        ["RCPT TO:<x@c.test>", "RCPT TO:<y@c.test>"]
    );
    assert_eq!(
        b.wait_for(1)[0].recipients,
        ["RCPT TO:<bob1@b.test>", "RCPT TO:<bob2@B.TEST>"]
    );
    assert_eq!(a.wait_for(1)[0].data, MESSAGE);
    assert_eq!(b.wait_for(1)[0].data, MESSAGE);
    assert!(c.transactions().is_empty());
}

#[test]
fn chunks_fan_out_as_each_next_hop_takes_them() {
    let binary = Sink::smtp().offer("CHUNKING").offer("BINARYMIME").start();
    let chunks = Sink::lmtp()
        .offer("CHUNKING")
        .once("DOT <c2@", "452 4.2.2 full")
        .start();
    let plain = Sink::lmtp().offer("BINARYMIME").start();
    let moody = Sink::smtp()
        .offer("CHUNKING")
        .always("BDAT 8", "552 5.3.4 enough")
        .start();
    let routes = format!(
        "'chunks.test' = '{}', 'plain.test' = '{}', 'moody.test' = '{}'",
        chunks.next_hop(),
        plain.next_hop(),
        moody.next_hop()
    );
    let egress = Egress::with("lmtp", None, &binary.next_hop().to_string(), &routes);
    let rcpts = [
        "p@plain.test",
        "c1@chunks.test",
        "m@moody.test",
        "b@binary.test",
        "c2@chunks.test",
    ];
    let message: [&[u8]; 3] = [b"Subject: x\r\n\r\n.", b"a\n.\r\0\r\n.", b"."];
    let replies = egress.send_chunks("MAIL FROM:<a@x.test>", &rcpts, &message);
    let taken = "250 2.0.0 ok, taken";
    assert_eq!(
        replies,
        [taken, taken, "552 5.3.4 enough", taken, "452 4.2.2 full"]
    );
    assert_eq!(chunks.wait_for(1)[0].data, message.concat());
    assert_eq!(binary.wait_for(1)[0].data, message.concat());
    let text = b"Subject: x\r\n\r\n..a\r\n..\r\n\0\r\n...\r\n";
    assert_eq!(plain.wait_for(1)[0].data, text);
    assert!(moody.transactions().is_empty());

    let mail = "MAIL FROM:<a@x.test> BODY=BINARYMIME";
    let replies = egress.send_chunks(mail, &rcpts, &message);
    let refused = "554 5.6.1 the next hop does not take binary mail";
    assert_eq!(replies, [refused, refused, refused, taken, refused]);
    let seen = &binary.wait_for(2)[1];
    assert_eq!(
        (seen.mail_from.as_str(), &seen.data),
        (mail, &message.concat())
    );
    for sink in [&chunks, &plain] {
        assert_eq!(sink.transactions().len(), 1);
    }
}

#[test]
fn a_next_hop_that_dies_in_the_message_does_not_harm_the_others() {
    let good = Sink::smtp().start();
    let bad = Sink::smtp().always("DOT", "close").start();
    let gone = net::address();
    let routes = format!(
        "'bad.test' = '{}', 'gone.test' = 'smtp://{gone}'",
        bad.next_hop()
    );
    let egress = Egress::with("lmtp", None, &good.next_hop().to_string(), &routes);
    let replies = egress.send(&["a@bad.test", "b@good.test", "c@gone.test"]);
    assert!(replies[0].starts_with("451 4.4.2"), "{replies:?}");
    assert_eq!(replies[1], "250 2.0.0 ok, taken");
    assert!(replies[2].starts_with("451 4.4.1"), "{replies:?}");
    assert_eq!(good.wait_for(1)[0].data, MESSAGE);
}

#[test]
fn mx_hosts_are_tried_in_order_of_preference() {
    let (down, up) = (
        *net::address().ip(),
        on_port_25(Sink::smtp().greet("220 mx2.dest.test ESMTP")),
    );
    let dns = Zone::default()
        .mx("dest.test", 20, "mx2.dest.test")
        .mx("dest.test", 10, "mx1.dest.test")
        .a("mx1.dest.test", down)
        .a("mx2.dest.test", up.1)
        .start();
    let egress = Egress::with("lmtp", Some(&dns), "mx", "");
    // A dot at its end, or another case, makes it no other domain.
    let replies = egress.send(&["bob@Dest.Test", "carol@dest.test."]);
    assert_eq!(replies, ["250 2.0.0 ok, taken"; 2]);
    assert_eq!(
        up.0.wait_for(1)[0].recipients,
        ["RCPT TO:<bob@Dest.Test>", "RCPT TO:<carol@dest.test.>"]
    );
}

/// A greeting of 5xx says that the host has no service now (RFC 5321, 3.1), and nothing of any mail.
#[test]
fn a_host_without_service_is_passed_over_and_bounces_nothing() {
    let taken = "250 2.0.0 ok, taken";
    for (first, second, told) in [
        ("554 no SMTP service here", "220 mx2.dest.test", taken),
        ("521 never", "220 mx2.dest.test", taken),
        ("421 4.3.2 busy", "220 mx2.dest.test", taken),
        ("421 4.3.2 busy", "554 5.3.2 not now", "451 4.3.2 next hop "),
        ("554 5.3.2 not now", "421 4.3.2 busy", "421 4.3.2 busy"),
        // It takes no mail at all (RFC 7504).
        ("521 never", "521 never", "521 never"),
    ] {
        let first = on_port_25(Sink::smtp().greet(first));
        let second = on_port_25(Sink::smtp().greet(second));
        let dns = two_hosts(first.1, second.1);
        let egress = Egress::with("lmtp", Some(&dns), "mx", "");
        let replies = egress.send(&["bob@dest.test"]);
        assert!(replies[0].starts_with(told), "{replies:?}");
        let tried = usize::from(told == taken);
        assert_eq!(second.0.transactions().len(), tried);
    }
}

/// Nothing of the message went to a host that said so, and the next one may take it (RFC 5321, 5.1).
#[test]
fn a_host_that_puts_mail_off_is_not_the_last_that_is_tried() {
    let taken = "250 2.0.0 ok, taken";
    let never = "MX2";
    for (at, first, second, told) in [
        ("MAIL", "450 4.7.1 not yet", "", taken),
        ("MAIL", "close", "", taken),
        ("RCPT", "450 4.7.1 not yet", "", taken),
        ("RCPT", "close", "", taken),
        ("DATA", "451 4.3.0 not yet", "", taken),
        (
            "MAIL",
            "450 4.7.1 not yet",
            "451 4.3.0 nor here",
            "451 4.3.0 nor here",
        ),
        (
            "RCPT",
            "450 4.7.1 not yet",
            "550 5.7.1 never",
            "550 5.7.1 never",
        ),
        ("MAIL", "450 4.7.1 not yet", never, "450 4.7.1 not yet"),
        // These are its last words.
        ("MAIL", "550 5.7.1 never", "", "550 5.7.1 never"),
        ("DOT", "451 4.3.0 not yet", "", "451 4.3.0 not yet"),
    ] {
        let mx1 = on_port_25(Sink::smtp().always(at, first));
        let mx2 = if second.is_empty() {
            Sink::smtp()
        } else {
            Sink::smtp().always("MAIL", second)
        };
        let mx2 = (second != never).then(|| on_port_25(mx2));
        let address = mx2
            .as_ref()
            .map_or_else(|| *net::address().ip(), |(_, ip)| *ip);
        let dns = two_hosts(mx1.1, address);
        let egress = Egress::with("lmtp", Some(&dns), "mx", "");
        let replies = egress.send(&["bob@dest.test", "carol@dest.test"]);
        assert_eq!(replies, [told; 2], "{at} {first}, {second}");
        if let Some((mx2, _)) = mx2.filter(|_| told == taken) {
            let seen = &mx2.wait_for(1)[0];
            assert_eq!((seen.recipients.len(), &seen.data[..]), (2, MESSAGE));
            // The session goes on where it was.
            assert_eq!(mx2.transactions().len(), 1);
        }
        assert!(
            mx1.0
                .transactions()
                .iter()
                .all(|seen| seen.replies == [first])
        );
    }
}

/// One of two is put off; the other has the mail, and with him it stays.
#[test]
fn a_host_that_takes_the_mail_for_some_keeps_the_others_waiting() {
    let mx1 = on_port_25(Sink::smtp().always("RCPT TO:<bob", "450 4.2.0 bob is moving"));
    let mx2 = on_port_25(Sink::smtp());
    let dns = two_hosts(mx1.1, mx2.1);
    let egress = Egress::with("lmtp", Some(&dns), "mx", "");
    let replies = egress.send(&["bob@dest.test", "carol@dest.test"]);
    assert_eq!(replies, ["450 4.2.0 bob is moving", "250 2.0.0 ok, taken"]);
    assert!(mx2.0.commands().is_empty());
}

/// A connection that was kept is to the host that puts off: it is not asked a second time.
#[test]
fn the_next_host_is_tried_after_one_that_was_kept() {
    let mx1 = on_port_25(Sink::smtp().always("RCPT TO:<carol", "450 4.2.0 not yet"));
    let mx2 = on_port_25(Sink::smtp());
    let dns = two_hosts(mx1.1, mx2.1);
    let egress = Egress::with("lmtp", Some(&dns), "mx", "");
    let mut mta = egress.transaction("MAIL FROM:<alice@origin.test>", &["bob@dest.test"]);
    let message = [MESSAGE, b".\r\n"].concat();
    mta.command("DATA", "354");
    mta.send(&message);
    mta.expect("250 2.0.0 ok, taken");
    mta.command("MAIL FROM:<alice@origin.test>", "250");
    mta.command("RCPT TO:<carol@dest.test>", "250");
    mta.command("DATA", "354");
    mta.send(&message);
    mta.expect("250 2.0.0 ok, taken");
    assert_eq!(mx1.0.dialogues().len(), 1, "{:?}", mx1.0.dialogues());
    assert_eq!(
        mx2.0.wait_for(1)[0].recipients,
        ["RCPT TO:<carol@dest.test>"]
    );
}

/// No host may be called so, and mail goes there all the same: name servers know names of any octets (RFC 2181, 11).
#[test]
fn names_with_an_underscore_can_be_reached() {
    let up = on_port_25(Sink::smtp());
    let route = Sink::smtp().start();
    let dns = Zone::default()
        .mx("des_t.test", 10, "mx_1.dest.test")
        .a("mx_1.dest.test", up.1)
        .a("_own.test", up.1)
        .start();
    let routes = format!("'rout_ed.test' = '{}'", route.next_hop());
    let egress = Egress::with("lmtp", Some(&dns), "mx", &routes);
    let replies = egress.send(&["a@des_t.test", "b@_own.test", "c@Rout_ed.test"]);
    assert_eq!(replies, ["250 2.0.0 ok, taken"; 3]);
    assert_eq!(up.0.wait_for(2).len(), 2);
    assert_eq!(route.wait_for(1).len(), 1);
}

/// Nobody can ever be reached there, so nobody is to try again for days.
#[test]
fn what_is_no_domain_is_refused_for_good() {
    let dns = Zone::default().start();
    let egress = Egress::with("lmtp", Some(&dns), "mx", "");
    let long = format!("c@{}.test", "a".repeat(64));
    let rcpts = ["a@[127.0.0.1", "b@x..test", &long, "d@[nonsense]"];
    for reply in egress.send(&rcpts) {
        assert!(reply.starts_with("501 5.1.3 domain "), "{reply}");
    }
    assert_eq!(dns.asked("x..test") + dns.asked("x"), 0);
}

#[test]
fn a_domain_without_mx_is_its_own_host() {
    let up = on_port_25(Sink::smtp());
    let dns = Zone::default().a("dest.test", up.1).start();
    let egress = Egress::with("lmtp", Some(&dns), "mx", "");
    assert_eq!(
        egress.send(&["bob@dest.test", &format!("x@[{}]", up.1)]),
        ["250 2.0.0 ok, taken"; 2]
    );
}

#[test]
fn domains_that_take_no_mail_are_told_apart() {
    let dns = Zone::default()
        .mx("null.test", 0, ".")
        .mx("loop.test", 10, "mx1.test")
        .mx("loop.test", 20, "mx9.test")
        .mx("empty.test", 10, "nowhere.test")
        .start();
    let egress = Egress::with("lmtp", Some(&dns), "mx", "");
    let replies = egress.send(&[
        "a@null.test",
        "b@loop.test",
        "c@unknown.test",
        "d@empty.test",
        "postmaster",
    ]);
    for (reply, expected) in replies.iter().zip([
        "556 5.1.10",
        "554 5.4.6",
        "550 5.1.2",
        "550 5.1.2",
        "550 5.1.2 an address",
    ]) {
        assert!(reply.starts_with(expected), "{replies:?}");
    }
}

#[test]
fn silent_name_servers_are_a_delay_not_a_bounce() {
    let silent = std::net::UdpSocket::bind(net::address()).expect("a port");
    let Ok(std::net::SocketAddr::V4(address)) = silent.local_addr() else {
        panic!("IPv4")
    };
    let exit = net::address();
    let _hop = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\nresolver = '{address}'\n[reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:/nonexistent'\n\
         [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'smtp'\nnext_hop = 'mx'\n"
    ));
    let mut mta = Dialogue::open(exit);
    mta.command("EHLO mta.test", "250");
    mta.command("MAIL FROM:<alice@origin.test>", "250");
    mta.command("RCPT TO:<bob@dest.test>", "250");
    mta.command("DATA", "354");
    mta.send([MESSAGE, b".\r\n"].concat());
    mta.expect("451 4.4.3");
}
