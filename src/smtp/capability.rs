//! The reply to EHLO or LHLO taken apart into its keywords (RFC 5321, 4.1.1.1), so that a proxy can
//! hide what it does not understand and show what it adds.

use super::reply::Reply;

/// The EHLO keywords that a proxy may show as they came: nothing behind them changes the framing or the
/// state of a session beyond what this module reads. Any other keyword is hidden.
pub const UNDERSTOOD: &[&str] = &[
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "SIZE",
    "PIPELINING",
    "CHUNKING",
    "BINARYMIME",
    "DELIVERBY",
    "MTRK",
    "FUTURERELEASE",
    "MT-PRIORITY",
    "LIMITS",
    "ETRN",
    "HELP",
    "VRFY",
    "EXPN",
];

/// What a server offers: its greeting line and one line for each keyword, as they came. Kept as the one
/// piece that it came as, because a session holds on to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities(Reply);

impl Capabilities {
    /// Takes a reply to EHLO or LHLO apart.
    pub fn of(reply: &Reply) -> Self {
        Self(reply.clone())
    }

    /// Whether they are those of this reply, octet by octet.
    pub fn is(&self, reply: &Reply) -> bool {
        self.0 == *reply
    }

    /// Whether the keyword is among the lines, in any case.
    pub fn offers(&self, keyword: &str) -> bool {
        self.all(keyword).next().is_some()
    }

    /// What stands behind the keyword, empty if nothing does; `None` if it is not offered.
    pub fn arguments(&self, keyword: &str) -> Option<&[u8]> {
        self.all(keyword).next()
    }

    /// The largest message the server takes, octets; `None` if it sets or names no limit (RFC 1870, 4).
    pub fn size_max(&self) -> Option<u64> {
        let text = std::str::from_utf8(self.arguments("SIZE")?).ok()?;
        let octets = text.split(' ').next()?.parse().ok()?;
        (octets > 0).then_some(octets)
    }

    /// Whether a request to track may be sent on: TRACK bare, or with NOW among its arguments.
    pub fn offers_track(&self) -> bool {
        self.all("TRACK").any(|arguments| {
            arguments.is_empty()
                || arguments
                    .split(|b| *b == b' ')
                    .any(|word| word.eq_ignore_ascii_case(b"NOW"))
        })
    }

    /// Hides every line whose keyword, in upper case, is not to be kept. The old form `AUTH=LOGIN` counts as
    /// AUTH.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let kept = |line: &[u8]| keep(&String::from_utf8_lossy(keyword(line)).to_ascii_uppercase());
        let lines = self.0.lines().enumerate();
        let kept: Vec<_> = lines
            .filter(|(at, line)| *at == 0 || kept(line))
            .map(|(_, line)| line)
            .collect();
        if kept.len() < self.0.lines().count() {
            self.0 = Reply::of_lines(self.0.code, &kept);
        }
    }

    /// Shows one more line. What is not printable ASCII becomes `?`.
    pub fn add(&mut self, line: &str) {
        self.0.add_line(line.as_bytes());
    }

    /// The reply to send on; octet by octet what came, if nothing was hidden or added.
    pub fn into_reply(self) -> Reply {
        self.0
    }

    /// The arguments of each line with this keyword.
    fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.lines().skip(1).filter_map(move |line| {
            let keyword = keyword(line);
            keyword
                .eq_ignore_ascii_case(name.as_bytes())
                .then(|| line[keyword.len()..].trim_ascii())
        })
    }
}

fn keyword(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|b| matches!(b, b' ' | b'='));
    &line[..end.unwrap_or(line.len())]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::super::reply::ReplyParse;
    use super::*;

    const EHLO: &str = "250-mx.example.net Hello\r\n250-PIPELINING\r\n250-size 10240000\r\n\
        250-AUTH=LOGIN\r\n250-X-b\u{f6}se 1\r\n250-TRACK later now\r\n250 8BITMIME\r\n";

    fn capabilities(raw: &str) -> Capabilities {
        let ReplyParse::Complete { reply, .. } = Reply::next(raw.as_bytes(), 4096) else {
            panic!("{raw:?} is no reply");
        };
        Capabilities::of(&reply)
    }

    fn shown(capabilities: &Capabilities) -> String {
        String::from_utf8_lossy(capabilities.clone().into_reply().raw()).into_owned()
    }

    #[test]
    fn keywords_are_found_in_any_case() {
        let offer = capabilities(EHLO);
        assert!(offer.offers("pipelining") && offer.offers("SIZE"));
        assert_eq!(offer.arguments("SIZE"), Some(&b"10240000"[..]));
        assert_eq!(offer.arguments("8BITMIME"), Some(&b""[..]));
        assert_eq!(offer.arguments("DSN"), None);
        assert!(
            !offer.offers("mx.example.net"),
            "the greeting offers nothing"
        );
        assert!(!offer.offers("PIPE"));
    }

    #[test]
    fn unknown_keywords_are_kept_until_they_are_hidden() {
        let mut offer = capabilities(EHLO);
        offer.retain(|_| true);
        assert_eq!(shown(&offer), EHLO);
        offer.retain(|keyword| UNDERSTOOD.contains(&keyword));
        offer.add("TRACK NOW");
        assert_eq!(
            shown(&offer),
            "250-mx.example.net Hello\r\n250-PIPELINING\r\n250-size 10240000\r\n250-8BITMIME\r\n250 TRACK NOW\r\n"
        );
        offer.retain(|_| false);
        assert_eq!(shown(&offer), "250 mx.example.net Hello\r\n");
    }

    #[test]
    fn an_untouched_reply_keeps_its_odd_lines() {
        for raw in ["250\r\n", "250-a\r\n250\r\n", "250-a\r\n250-\r\n250 \r\n"] {
            let mut offer = capabilities(raw);
            offer.retain(|_| true);
            assert_eq!(shown(&offer), raw);
        }
    }

    #[test]
    fn an_added_line_cannot_become_two() {
        let mut offer = capabilities("250 mx\r\n");
        offer.add("TRACK\r\n250 X");
        assert_eq!(shown(&offer), "250-mx\r\n250 TRACK??250 X\r\n");
    }

    #[test]
    fn a_line_is_added_behind_a_bare_code() {
        for (raw, with) in [
            ("250\r\n", "250-\r\n250 DSN\r\n"),
            ("250-a\r\n250\r\n", "250-a\r\n250-\r\n250 DSN\r\n"),
            ("250-a\r\n250 \r\n", "250-a\r\n250-\r\n250 DSN\r\n"),
        ] {
            let mut offer = capabilities(raw);
            offer.add("DSN");
            assert_eq!(shown(&offer), with);
        }
    }

    #[test]
    fn the_size_limit_is_a_number_above_zero() {
        for (line, expected) in [
            ("SIZE 10240000", Some(10_240_000)),
            ("size 5 x", Some(5)),
            ("SIZE", None),
            ("SIZE 0", None),
            ("SIZE -1", None),
            ("SIZE 99999999999999999999999", None),
            ("SIZES 5", None),
        ] {
            let offer = capabilities(&format!("250-mx\r\n250 {line}\r\n"));
            assert_eq!(offer.size_max(), expected, "{line}");
        }
    }

    #[test]
    fn track_is_offered_bare_or_with_now() {
        for (line, expected) in [
            ("TRACK", true),
            ("track now", true),
            ("TRACK LATER NOW MAXHOP=16", true),
            ("TRACK LATER", false),
            ("TRACK NOWHERE", false),
            ("XTRACK NOW", false),
            ("DSN", false),
        ] {
            let offer = capabilities(&format!("250-mx\r\n250 {line}\r\n"));
            assert_eq!(offer.offers_track(), expected, "{line}");
        }
    }
}
