//! Nasty but legal mail through real MTAs, with hoptrail around them and without: what comes out must be
//! the same, octet by octet, but for what an MTA writes anew for each message; tracked as well as not.
//!
//! ```text
//! client ─────────────▶ MTA ───────────▶ sink
//! client ─▶ ingress ─▶ MTA ─▶ egress ─▶ sink
//! ```

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddrV4;
use std::path::Path;

use support::corpus::{Sample, corpus};
use support::dialogue::Dialogue;
use support::hoptrail::Hoptrail;
use support::mail::Mail;
use support::mta::{Mta, Setup, start_all};
use support::net::{self, NextHop};
use support::sink::{Script, Sink, Transaction};

#[test]
fn through_postfix_mail_comes_out_the_same() {
    comes_out_the_same(|| Mta::postfix("mx1.test"), store);
}

#[test]
fn through_exim_mail_comes_out_the_same() {
    comes_out_the_same(|| Mta::exim("mx1.test"), store);
}

#[test]
fn through_exim_and_in_chunks_mail_comes_out_the_same() {
    comes_out_the_same(
        || Mta::exim("mx1.test"),
        || store().offer("CHUNKING").offer("BINARYMIME"),
    );
}

#[test]
fn through_opensmtpd_mail_comes_out_the_same() {
    comes_out_the_same(|| Mta::opensmtpd("mx1.test"), store);
}

#[test]
fn through_sendmail_mail_comes_out_the_same() {
    comes_out_the_same(|| Mta::sendmail("mx1.test"), store);
}

/// How a sample is sent.
#[derive(Clone, Copy)]
enum Way {
    /// To the MTA itself.
    Bare,
    /// Through hoptrail.
    Around,
    /// Through hoptrail, tracked.
    Tracked,
}

impl Way {
    /// What tells the recipients apart; of one length, so that sizes are the same.
    fn recipient(self, sample: &Sample) -> String {
        let way = match self {
            Self::Bare => "bare",
            Self::Around => "with",
            Self::Tracked => "told",
        };
        format!("{}.{way}@dest.test", sample.name)
    }
}

fn comes_out_the_same(mta: impl Fn() -> Setup, store: impl Fn() -> Script) {
    let (bare_sink, sink) = (store().start(), store().start());
    let (entrance, exit) = (net::address(), net::address());
    let [bare, around] = start_all([
        mta().next_hop(bare_sink.next_hop()),
        mta().next_hop(NextHop::Lmtp(exit)),
    ]);
    let reports = tempfile::tempdir().expect("a temporary directory");
    let _hoptrail = Hoptrail::serve(&format!(
        "hostname = 'mx1.test'\n\
         [reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
         [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
         [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = '{}'\n",
        reports.path().display(),
        around.address(),
        sink.next_hop(),
    ));
    let samples = corpus();
    let mut taken = Vec::new();
    for sample in &samples {
        let answers = [
            submit(bare.address(), sample, Way::Bare),
            submit(entrance, sample, Way::Around),
            submit(entrance, sample, Way::Tracked),
        ];
        let [bare, around, tracked] = answers.map(|answer| answer.map(|words| code(&words)));
        assert_eq!(bare, around, "{}", sample.name);
        assert_eq!(bare, tracked, "{}, tracked", sample.name);
        if bare.is_some_and(|code| code.starts_with('2')) {
            taken.push(sample);
        }
    }
    assert!(taken.len() > 15, "the MTA refused all the others");

    let bare = bare_sink.wait_for(taken.len());
    let around = sink.wait_for(2 * taken.len());
    let mut wrong = Vec::new();
    for sample in &taken {
        let expected = find(&bare, &Way::Bare.recipient(sample));
        for way in [Way::Around, Way::Tracked] {
            let recipient = way.recipient(sample);
            let seen = find(&around, &recipient);
            let differ = difference(
                &comparable(sample, &expected.data),
                &comparable(sample, &seen.data),
            );
            wrong.extend(differ.map(|what| format!("{recipient}: {what}")));
        }
        let around = find(&around, &Way::Around.recipient(sample));
        let unlike = envelope(expected) != envelope(around);
        wrong.extend(unlike.then(|| format!("{}: {expected:?}{around:?}", sample.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_told(reports.path(), &taken);
}

/// It offers what an egress offers, so that an MTA has no reason to treat the two differently; but chunks, which
/// the egress takes from Exim all the same.
fn store() -> Script {
    let keywords = [
        "PIPELINING",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "SMTPUTF8",
        "SIZE",
        "DSN",
    ];
    let offer = |script: Script, keyword: &&str| script.offer(keyword);
    keywords.iter().fold(Sink::lmtp(), offer)
}

/// The MTA's last word; `None` if it has no way to be told this sample.
fn submit(to: SocketAddrV4, sample: &Sample, way: Way) -> Option<String> {
    let mut client = Dialogue::open(to);
    let offer = client.command("EHLO client.test", "250");
    let offers = |keyword: &str| offer.iter().any(|line| line[4..].starts_with(keyword));
    let (body, chunks) = (offers("8BITMIME"), offers("CHUNKING"));
    if !sample.ends_with_line() && !chunks {
        return None;
    }
    let mut mail = "MAIL FROM:<alice@origin.test>".to_owned();
    if body {
        mail.push_str(" BODY=8BITMIME");
    }
    if matches!(way, Way::Tracked) {
        mail.push_str(" TRACK=NOW");
    }
    client.command(&mail, "250");
    client.command(&format!("RCPT TO:<{}>", way.recipient(sample)), "250");
    if sample.ends_with_line() {
        client.data(&sample.text);
    } else {
        client.send(
            [
                format!("BDAT {} LAST\r\n", sample.text.len()).as_bytes(),
                &sample.text,
            ]
            .concat(),
        );
    }
    Some(client.reply().join("\n"))
}

/// A reply without its queue id and the like.
fn code(reply: &str) -> String {
    if reply.starts_with('2') {
        return reply[..3].to_owned();
    }
    reply.to_owned()
}

/// What the sink was told of the mail, whichever way it came.
fn envelope(seen: &Transaction) -> String {
    let lines = format!("{}\n{}", seen.mail_from, seen.recipients.join("\n"));
    lines.replace(".with@", ".bare@")
}

fn find<'a>(all: &'a [Transaction], recipient: &str) -> &'a Transaction {
    let to = format!("<{recipient}>");
    let is = |seen: &&Transaction| seen.recipients.iter().any(|line| line.contains(&to));
    all.iter()
        .find(is)
        .unwrap_or_else(|| panic!("no mail to {recipient} in {all:?}"))
}

/// What came out, with the value of each field masked that the MTA has put there itself and that names a
/// time or a queue id. What the sender wrote is left as it is.
fn comparable(sample: &Sample, data: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = data;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        let (field, behind) = rest.split_at(field_len(rest));
        let name = field
            .split(|octet| *octet == b':')
            .next()
            .unwrap_or_default();
        let made = [&b"received"[..], b"message-id", b"date"]
            .iter()
            .any(|made| name.eq_ignore_ascii_case(made));
        if made && !sample.text.windows(field.len()).any(|own| own == field) {
            all.extend_from_slice(name);
            all.extend_from_slice(b": (made by the MTA)\r\n");
        } else {
            all.extend_from_slice(field);
        }
        rest = behind;
    }
    all.extend_from_slice(rest);
    all
}

/// The length of the field at the start of a header block, with its folded lines.
fn field_len(block: &[u8]) -> usize {
    let mut len = 0;
    loop {
        let line = block[len..].iter().position(|octet| *octet == b'\n');
        len = line.map_or(block.len(), |at| len + at + 1);
        if !matches!(block.get(len), Some(b' ' | b'\t')) {
            return len;
        }
    }
}

/// Where two texts part, if they do.
fn difference(expected: &[u8], seen: &[u8]) -> Option<String> {
    if expected == seen {
        return None;
    }
    let at = expected
        .iter()
        .zip(seen)
        .take_while(|(a, b)| a == b)
        .count();
    let around = |text: &[u8]| {
        let end = text.len().min(at + 80);
        text[at.saturating_sub(40)..end].escape_ascii().to_string()
    };
    Some(format!(
        "at octet {at} of {} and {}\n  without: {}\n  with:    {}",
        expected.len(),
        seen.len(),
        around(expected),
        around(seen)
    ))
}

/// Every sample that can be was tracked, or what came out proves nothing.
fn assert_told(reports: &Path, taken: &[&Sample]) {
    let trackable = taken.iter().filter(|sample| sample.trackable());
    let mut expected: Vec<_> = trackable
        .map(|sample| Way::Tracked.recipient(sample))
        .collect();
    expected.sort();
    let mut told: Vec<String> = support::wait_until(support::PATIENCE, "all reports", || {
        let mails = Mail::in_maildir(reports);
        if mails.len() < expected.len() {
            return Err(format!("{} of {}", mails.len(), expected.len()));
        }
        let reports = mails.iter().filter_map(Mail::report);
        Ok(reports
            .flat_map(|report| report.final_recipients())
            .collect())
    });
    told.sort();
    assert_eq!(told, expected);
}
