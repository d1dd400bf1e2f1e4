//! Mail that is nasty but legal, or at least comes by: what relays, parsers and proxies like to change.

/// One message with the line ends of the wire, dots not stuffed.
pub struct Sample {
    /// Fit for a local part.
    pub name: &'static str,
    /// The message.
    pub text: Vec<u8>,
}

impl Sample {
    /// Whether DATA can carry it: a message there ends with CR LF, or is empty.
    pub fn ends_with_line(&self) -> bool {
        self.text.is_empty() || self.text.ends_with(b"\r\n")
    }

    /// Whether a carry header can go before it: it begins with a field, or with the empty line.
    pub fn trackable(&self) -> bool {
        !["text-only", "folded-start", "mbox"].contains(&self.name)
    }
}

/// A header block without its empty line.
const HEADER: &str = "From: Alice <alice@origin.test>\r\nTo: <bob@dest.test>\r\nSubject: x\r\n\
    Date: Mon, 23 Nov 2026 16:05:09 +0000\r\nMessage-ID: <m1@origin.test>\r\n";

/// All samples.
pub fn corpus() -> Vec<Sample> {
    let mut all = shapes();
    all.extend(headers());
    all.extend(bodies());
    all
}

/// Where header and body begin and end.
fn shapes() -> Vec<Sample> {
    vec![
        of("empty-body", "\r\n"),
        of("header-only", ""),
        raw("no-header", "\r\nThe body begins at once.\r\n"),
        raw(
            "text-only",
            "No header at all, and no empty line.\r\nSecond line.\r\n",
        ),
        raw("nothing", ""),
        raw("empty-line", "\r\n"),
        raw(
            "folded-start",
            "\tbegins like a folded line\r\nSubject: x\r\n\r\nbody\r\n",
        ),
        raw(
            "mbox",
            format!("From alice@origin.test Mon Nov 23 16:05:09 2026\r\n{HEADER}\r\nbody\r\n"),
        ),
        of("no-line-end", "\r\nthe last line does not end"),
        of("header-no-line-end", "X-Last: the field does not end"),
        of("empty-lines", "\r\n\r\n\r\nbody\r\n\r\n\r\n\r\n"),
    ]
}

/// What stands in a header.
fn headers() -> Vec<Sample> {
    let trace = |n| {
        format!(
            "Received: from r{n}.test (r{n}.test [192.0.2.{n}])\r\n\tby s{n}.test with ESMTP id {n:08}\r\n\
             \tfor <bob@dest.test>; Mon, 23 Nov 2026 16:05:{n:02} +0000\r\n"
        )
    };
    let traces: String = (1..=20).rev().map(trace).collect();
    let fold = format!("X-Folded: {}\r\n", "x".repeat(988));
    let folds = format!("\t{}\r\n", "y".repeat(997)).repeat(5);
    vec![
        raw("many-received", format!("{traces}{HEADER}\r\nbody\r\n")),
        of("folded-998", format!("{fold}{folds} \tz\r\n\r\nbody\r\n")),
        of(
            "odd-fields",
            "x-lower: 1\r\nX-EMPTY:\r\nX-Blank: \r\nX-Fold:\r\n \r\n\tvalue\r\nX-No-Blank:1\r\nX-End: blanks  \t \r\n\r\nbody\r\n",
        ),
        of(
            "same-field-twice",
            "X-Same: 1\r\nX-Same: 1\r\nSubject: again\r\n\r\nbody\r\n",
        ),
        of(
            "eight-bit-header",
            "X-Name: J\u{fc}rgen \u{20ac}\r\n\r\nbody\r\n",
        ),
        of(
            "resent",
            "Resent-From: <carol@other.test>\r\nResent-Date: Mon, 23 Nov 2026 16:06:09 +0000\r\nResent-Message-ID: <r1@other.test>\r\n\r\nbody\r\n",
        ),
        raw(
            "not-ours",
            format!(
                "Hoptrail-Request: v=1; somebody else's\r\n{HEADER}X-Hoptrail: also\r\n\r\nHoptrail-Carry: v=1; in the body\r\n"
            ),
        ),
        of(
            "many-fields",
            format!(
                "{}\r\nbody\r\n",
                "X-Filler: 0123456789 0123456789 0123456789\r\n".repeat(400)
            ),
        ),
    ]
}

/// What stands in a body.
fn bodies() -> Vec<Sample> {
    let octets: Vec<u8> = (1..=255).filter(|octet| !b"\r\n".contains(octet)).collect();
    let binary = [b"\r\n", &octets[..], b"\r\n", &octets[..], b"\r\n"].concat();
    let long = format!("\r\n{}\r\n{}\r\n", "x".repeat(998), ".".repeat(998));
    let large = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ ..........\r\n";
    let mime = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\n\
        Content-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\nplain\r\n--c\r\nContent-Type: text/html; charset=utf-8\r\n\
        Content-Transfer-Encoding: 8bit\r\n\r\n<p>\u{e4}\u{f6}\u{fc}</p>\r\n--c--\r\n--a b\r\nContent-Type: message/rfc822\r\n\r\n\
        Subject: inner\r\nReceived: inner\r\n\r\n.\r\n--a b--\r\nepilogue\r\n";
    vec![
        of("plain", "\r\nHello.\r\n"),
        of("utf-8", "\r\n\u{e4}\u{f6}\u{fc} \u{20ac} \u{1f600}\r\n"),
        bytes("latin-1", b"\r\nJ\xfcrgen \xe4\xf6\r\n"),
        bytes("binary", &binary),
        of("long-lines", long),
        of(
            "dots",
            "\r\n.\r\n..\r\n...\r\n.x\r\n. \r\nx.\r\n.\t.\r\n....\r\n.\r\n",
        ),
        of(
            "from-lines",
            "\r\nFrom here on\r\n>From there\r\nFrom alice@origin.test Mon Nov 23 16:05:09 2026\r\n",
        ),
        of(
            "blanks",
            "\r\n  \r\nblanks at the end   \r\n\t\r\ntab\t\r\n \r\n",
        ),
        of("mime", mime),
        of(
            "commands",
            "\r\nQUIT\r\nRSET\r\nMAIL FROM:<x@y>\r\nBDAT 5 LAST\r\n",
        ),
        of(
            "one-megabyte",
            format!("\r\n{}", large.repeat(1_048_576 / large.len())),
        ),
    ]
}

/// The usual header, and then this.
fn of(name: &'static str, rest: impl AsRef<str>) -> Sample {
    bytes(name, rest.as_ref().as_bytes())
}

fn bytes(name: &'static str, rest: &[u8]) -> Sample {
    Sample {
        name,
        text: [HEADER.as_bytes(), rest].concat(),
    }
}

/// Just this.
fn raw(name: &'static str, text: impl Into<String>) -> Sample {
    Sample {
        name,
        text: text.into().into_bytes(),
    }
}
