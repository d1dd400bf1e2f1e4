//! What a client may come to say, for the comparison of an ingress with none: each thing with what it comes
//! to, so that nothing here parses commands.

use proptest::prelude::*;

/// Something the client says.
#[derive(Clone, Debug)]
pub enum Say {
    /// A line the MTA is to see as it is.
    Plain(&'static str),
    /// MAIL with a TRACK in it: what stands before it, the TRACK, what stands behind it.
    Track(&'static str, &'static str, &'static str, Request),
    /// A line that goes no further, and the beginning of the answer.
    Ours(String, &'static str),
    /// DATA, and the message if there is a 354: as it is sent, and as it arrives.
    Message(&'static str, String, String),
    /// BDAT with its octets.
    Chunk(&'static str, bool),
    /// Octets behind which nothing can be followed, and the beginning of the answer.
    Fatal(&'static str, &'static str),
}

/// What a TRACK is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// One that is granted.
    Good,
    /// One that makes no transaction.
    Malformed,
}

/// Dialogues of one or more transactions, with all that may go wrong.
pub fn dialogues() -> impl Strategy<Value = Vec<Say>> {
    let part = prop_oneof![
        4 => one().prop_map(|say| vec![say]),
        2 => transaction(message()),
        2 => transaction(chunks()),
    ];
    let hello = prop_oneof![
        8 => Just(vec![Say::Plain("EHLO client.test")]),
        1 => Just(vec![Say::Plain("HELO client.test")]),
        1 => Just(Vec::new()),
    ];
    (hello, proptest::collection::vec(part, 1..8))
        .prop_map(|(hello, parts)| [hello, parts.concat()].concat())
}

/// MAIL and some RCPTs, a message, and often something that does not belong there.
fn transaction(text: impl Strategy<Value = Vec<Say>>) -> impl Strategy<Value = Vec<Say>> {
    let rcpts = proptest::collection::vec(rcpt(), 1..4);
    let stray = prop::option::weighted(0.4, (any::<prop::sample::Index>(), one()));
    (mail(), rcpts, text, stray).prop_map(|(mail, rcpts, text, stray)| {
        let mut all = [vec![mail], rcpts, text].concat();
        if let Some((place, say)) = stray {
            all.insert(1 + place.index(all.len()), say);
        }
        all
    })
}

fn one() -> impl Strategy<Value = Say> {
    let plain = prop::sample::select(vec![
        "NOOP",
        "noop  two  blanks ",
        "RSET",
        "rset",
        "EHLO client.test",
        "EHLO [127.0.0.1]",
        "HELO client.test",
        "VRFY alice",
        "EXPN list",
        "HELP",
        "HELP mail",
    ]);
    let last = prop_oneof![
        Just(Say::Plain("QUIT")),
        Just(Say::Plain("NOOP DIE")),
        Just(Say::Fatal("NOOP\nRSET\r\n", "500 5.5.2")),
        Just(Say::Fatal("NOOP\r\r\n", "500 5.5.2")),
        Just(Say::Fatal("\n", "500 5.5.2")),
        Just(Say::Fatal("BDAT 1x\r\n", "501 5.5.4")),
    ];
    prop_oneof![
        6 => plain.prop_map(Say::Plain),
        4 => ours(),
        2 => mail(),
        2 => rcpt(),
        1 => message().prop_map(|mut all| all.remove(0)),
        2 => chunk(),
        1 => last,
        3 => Just(Say::Plain("RSET")),
    ]
}

fn mail() -> impl Strategy<Value = Say> {
    use Request::{Good, Malformed};
    const ALICE: &str = "MAIL FROM:<alice@origin.test>";
    prop::sample::select(vec![
        Say::Plain(ALICE),
        Say::Plain("mail From:<alice@origin.test>  body=8bitmime"),
        Say::Plain("MAIL FROM:<>"),
        Say::Plain("MAIL FROM:<\"a b\"@origin.test>"),
        Say::Plain("MAIL FROM:<bad@origin.test>"),
        Say::Plain("MAIL FROM:<alice@origin.test> XYZ=1"),
        Say::Track(ALICE, " TRACK=NOW", "", Good),
        Say::Track(ALICE, " track=now:hop/3", " BODY=8BITMIME", Good),
        Say::Track(
            "MAIL FROM:<bad@origin.test> BODY=7BIT",
            " TRACK=NOW:x/1",
            "",
            Good,
        ),
        Say::Track(ALICE, " TRACK=LATER", "", Malformed),
        Say::Track(ALICE, " TRACK", " BODY=7BIT", Malformed),
        Say::Track(ALICE, " TRACK=NOW TRACK=NOW", "", Malformed),
    ])
}

fn rcpt() -> impl Strategy<Value = Say> {
    prop::sample::select(vec![
        Say::Plain("RCPT TO:<bob@dest.test>"),
        Say::Plain("RCPT TO:<bob@dest.test>"),
        Say::Plain("rcpt to:<Carol@Dest.Test>"),
        Say::Plain("RCPT TO:<nobody@dest.test>"),
        Say::Plain("RCPT TO:<full@dest.test>"),
        Say::Plain("RCPT TO:<bob@dest.test> XYZ"),
    ])
}

fn ours() -> impl Strategy<Value = Say> {
    let lines = [
        ("", "500 5.5.2"),
        (" NOOP", "500 5.5.2"),
        ("NO\0OP", "500 5.5.2"),
        ("NOOP \u{7f}", "500 5.5.2"),
        ("XYZZY", "502 5.5.1"),
        ("ETRN dest.test", "502 5.5.1"),
        ("XCLIENT ADDR=192.0.2.1", "502 5.5.1"),
        ("STARTTLS", "502 5.5.1"),
        ("LHLO client.test", "502 5.5.1"),
        ("EHLO", "501 5.5.4"),
        ("DATA now", "501 5.5.4"),
        ("RSET now", "501 5.5.4"),
        ("MAIL FROM:<alice", "501 5.1.7"),
        ("MAIL TO:<alice@origin.test>", "501 5.5.4"),
        ("MAIL FROM:<alice@origin.test> =1", "501 5.5.4"),
        ("RCPT TO:<>", "501 5.1.3"),
    ];
    let mut all = lines
        .map(|(line, answer)| (line.to_owned(), answer))
        .to_vec();
    all.push((format!("NOOP {}", "x".repeat(4090)), "500 5.5.2"));
    all.push((format!("MAIL FROM:<{}@x>", "y".repeat(20_000)), "500 5.5.2"));
    prop::sample::select(all).prop_map(|(line, answer)| Say::Ours(line, answer))
}

/// Messages as they are sent and as they arrive: only lone CRs and LFs make a difference.
fn message() -> impl Strategy<Value = Vec<Say>> {
    let same = |text: &str| (text.to_owned(), text.to_owned());
    let texts = vec![
        same("Subject: x\r\n\r\nbody\r\n"),
        same("\r\nno header\r\n"),
        same(""),
        same("Subject: x\r\n"),
        same(" folded\r\n\r\nbody\r\n"),
        same("From alice\r\nSubject: x\r\n\r\nbody\r\n"),
        same("Subject: x\r\n\r\n..\r\n...\r\n.x\r\nQUIT\r\n"),
        same("Subject: virus\r\n\r\nbody\r\n"),
        same(&format!("A: b\r\n\r\n{}", "0123456789\r\n".repeat(3000))),
        (
            "A: b\r\n\r\nx\n.\ny\r.\r\nz\r\n".to_owned(),
            "A: b\r\n\r\nx\r\n..\r\ny\r\n..\r\nz\r\n".to_owned(),
        ),
    ];
    let command = prop::sample::select(vec!["DATA", "data", "Data "]);
    (command, prop::sample::select(texts))
        .prop_map(|(command, (sent, arrives))| vec![Say::Message(command, sent, arrives)])
}

fn chunk() -> impl Strategy<Value = Say> {
    let octets = prop::sample::select(vec![
        "Subject: x\r\n\r\nbody",
        "",
        "a",
        "Subj",
        "ect: x\r",
        "\n",
        "\r\n",
        " x\r\n",
        "QUIT\r\n.\r\n\n\r\0",
        "virus",
    ]);
    (octets, any::<bool>()).prop_map(|(octets, last)| Say::Chunk(octets, last))
}

fn chunks() -> impl Strategy<Value = Vec<Say>> {
    proptest::collection::vec(chunk(), 1..4).prop_map(|mut all| {
        if let Some(Say::Chunk(_, last)) = all.last_mut() {
            *last = true;
        }
        all
    })
}

/// Of the samples here, those a carry header can go before.
pub fn begins_soundly(text: &str) -> bool {
    let line = text.split_once("\r\n").map_or(text, |(line, _)| line);
    let name = line.split(':').next().unwrap_or_default();
    line.is_empty() || !name.contains(' ') && name != line
}
