//! One command line taken apart into verb and argument (RFC 5321, 4.1.1), and the reply to one that
//! cannot be. Judges syntax only; the order of commands is the session's business.

use memchr::memchr;

use super::envelope::EnvelopeCommand;
use super::refusal::Refusal;

/// The verbs a proxy has to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Extended greeting.
    Ehlo,
    /// Old greeting.
    Helo,
    /// LMTP greeting (RFC 2033).
    Lhlo,
    /// Opens a transaction: the reverse-path.
    Mail,
    /// One recipient.
    Rcpt,
    /// The message follows, after 354.
    Data,
    /// Ends the transaction.
    Rset,
    /// Nothing.
    Noop,
    /// Asks for a mailbox.
    Vrfy,
    /// Asks for a list.
    Expn,
    /// Asks for help.
    Help,
    /// Ends the session.
    Quit,
    /// A chunk of counted octets follows at once (RFC 3030).
    Bdat,
    /// TLS follows, after 220 (RFC 3207).
    Starttls,
    /// A dialogue of its own follows (RFC 4954).
    Auth,
    /// Any other well-formed verb.
    Other,
}

/// The longest verb that is told apart.
const VERB_OCTETS_MAX: usize = 8;

impl Verb {
    /// What the first word of a line that is refused was meant to say, whatever stands around it: who takes it for said may
    /// send what comes behind it.
    pub fn meant(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|octet| !octet.is_ascii_alphanumeric());
        Self::of(words.find(|word| !word.is_empty())?)
    }

    /// `None` if no verb of any extension could look like this.
    fn of(word: &[u8]) -> Option<Self> {
        let mut upper = [0; VERB_OCTETS_MAX];
        if let Some(upper) = upper.get_mut(..word.len()) {
            upper.copy_from_slice(word);
            upper.make_ascii_uppercase();
        }
        Some(match &upper[..word.len().min(VERB_OCTETS_MAX)] {
            b"EHLO" => Self::Ehlo,
            b"HELO" => Self::Helo,
            b"LHLO" => Self::Lhlo,
            b"MAIL" => Self::Mail,
            b"RCPT" => Self::Rcpt,
            b"DATA" => Self::Data,
            b"RSET" => Self::Rset,
            b"NOOP" => Self::Noop,
            b"VRFY" => Self::Vrfy,
            b"EXPN" => Self::Expn,
            b"HELP" => Self::Help,
            b"QUIT" => Self::Quit,
            b"BDAT" => Self::Bdat,
            b"STARTTLS" => Self::Starttls,
            b"AUTH" => Self::Auth,
            _ if is_verb(word) => Self::Other,
            _ => return None,
        })
    }
}

fn is_verb(word: &[u8]) -> bool {
    word.first().is_some_and(u8::is_ascii_alphabetic)
        && word.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

const CONTROL: Refusal = Refusal::new(500, "5.5.2", "Control characters in a command");
const NO_VERB: Refusal = Refusal::new(500, "5.5.2", "Not a command");
const NO_DOMAIN: Refusal = Refusal::new(501, "5.5.4", "A domain is needed");
const NO_ARGUMENT_ALLOWED: Refusal = Refusal::new(501, "5.5.4", "No argument allowed");
const NOT_ENVELOPE: Refusal = Refusal::new(501, "5.5.4", "Not MAIL or RCPT");

/// A well-formed command: a view into the line that came.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    /// Which command.
    pub verb: Verb,
    line: &'a [u8],
    /// Where the argument starts in `line`.
    argument: usize,
    /// MAIL or RCPT taken apart.
    envelope: Option<EnvelopeCommand<'a>>,
}

impl<'a> Command<'a> {
    /// Reads a line that came without its CRLF. Whatever is refused here must not be passed on.
    ///
    /// 500 for what is no command at all, 501 for a known verb with an argument that cannot be right.
    /// Blanks at the end are tolerated (RFC 5321, 4.1.1); octets from 0x80 on may stand in an argument
    /// (RFC 6531), and whether they may in this transaction is the MTA's to say.
    pub fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        // Looks at all of them, so that the compiler makes vector instructions of it.
        if line.iter().fold(false, |any, b| any | b.is_ascii_control()) {
            return Err(CONTROL);
        }
        let end = memchr(b' ', line).unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        let verb = Verb::of(word).ok_or(NO_VERB)?;
        let argument = line.len() - rest.trim_ascii_start().len();
        let envelope = match verb {
            Verb::Mail => Some(EnvelopeCommand::mail(line, argument)?),
            Verb::Rcpt => Some(EnvelopeCommand::rcpt(line, argument)?),
            _ => None,
        };
        let command = Self {
            verb,
            line,
            argument,
            envelope,
        };
        command.check()?;
        Ok(command)
    }

    fn check(&self) -> Result<(), Refusal> {
        let bare = self.argument().is_empty();
        match self.verb {
            Verb::Ehlo | Verb::Helo | Verb::Lhlo if bare => Err(NO_DOMAIN),
            Verb::Data | Verb::Rset | Verb::Quit | Verb::Starttls if !bare => {
                Err(NO_ARGUMENT_ALLOWED)
            }
            _ => Ok(()),
        }
    }

    /// The whole line, as it came.
    pub fn line(&self) -> &'a [u8] {
        self.line
    }

    /// What follows the verb, without the blanks around it.
    pub fn argument(&self) -> &'a [u8] {
        self.line[self.argument..].trim_ascii_end()
    }

    /// Path and parameters of MAIL or RCPT; 501 for any other verb.
    pub fn envelope(self) -> Result<EnvelopeCommand<'a>, Refusal> {
        self.envelope.ok_or(NOT_ENVELOPE)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn code_of(line: &[u8]) -> u16 {
        Command::parse(line).map_or_else(|refusal| refusal.code, |_| 250)
    }

    #[test]
    fn verbs_are_known_in_any_case() {
        for (name, verb) in [
            ("EHLO", Verb::Ehlo),
            ("HELO", Verb::Helo),
            ("LHLO", Verb::Lhlo),
            ("MAIL", Verb::Mail),
            ("RCPT", Verb::Rcpt),
            ("DATA", Verb::Data),
            ("RSET", Verb::Rset),
            ("NOOP", Verb::Noop),
            ("VRFY", Verb::Vrfy),
            ("EXPN", Verb::Expn),
            ("HELP", Verb::Help),
            ("QUIT", Verb::Quit),
            ("BDAT", Verb::Bdat),
            ("STARTTLS", Verb::Starttls),
            ("AUTH", Verb::Auth),
        ] {
            let argument = match verb {
                Verb::Mail => " FROM:<>",
                Verb::Rcpt => " TO:<a@b>",
                Verb::Data | Verb::Rset | Verb::Quit | Verb::Starttls => "  ",
                _ => " x",
            };
            for line in [
                format!("{name}{argument}"),
                format!("{}{argument}", name.to_lowercase()),
            ] {
                let command = Command::parse(line.as_bytes()).unwrap();
                assert_eq!(command.verb, verb, "{line}");
                assert_eq!(command.argument(), argument.trim().as_bytes());
                assert_eq!(command.line(), line.as_bytes());
            }
        }
        for line in ["XCLIENT ADDR=1.2.3.4", "x-y", "ETRN a", "DATAX"] {
            assert_eq!(Command::parse(line.as_bytes()).unwrap().verb, Verb::Other);
        }
    }

    #[test]
    fn what_is_no_command_gets_500() {
        let lines: [&[u8]; 11] = [
            b"",
            b"  ",
            b" NOOP",
            b"NOOP\0",
            b"NO\tOP",
            b"NOOP\rQUIT",
            b"NOOP\nQUIT",
            b"NOOP \x7f",
            b"<script>",
            b"MAIL:<a@b>",
            b"N\xc3\xb6OP",
        ];
        for line in lines {
            assert_eq!(code_of(line), 500, "{line:?}");
        }
    }

    #[test]
    fn arguments_that_cannot_be_right_get_501() {
        for line in [
            "DATA x",
            "RSET x",
            "QUIT x",
            "STARTTLS x",
            "EHLO",
            "EHLO  ",
            "HELO",
            "LHLO",
            "MAIL",
            "MAIL FROM",
            "RCPT TO:",
            "MAIL FROM:<a@b> =x",
        ] {
            assert_eq!(code_of(line.as_bytes()), 501, "{line}");
        }
    }

    #[test]
    fn a_verb_is_known_however_it_is_misspelt() {
        for line in [
            "DATA",
            "data x",
            " Data",
            "\tDATA",
            "DATA\t",
            "DATA\0x",
            "DATA:",
            "DATA,",
            "\0DATA",
            "\u{feff}DATA",
            "(DATA)",
        ] {
            assert_eq!(Verb::meant(line.as_bytes()), Some(Verb::Data), "{line:?}");
        }
        assert_eq!(Verb::meant(b"BDAT\t4 LAST"), Some(Verb::Bdat));
        for line in ["", " ", "DAT", "DATAX", "X DATA", "D\0ATA"] {
            let meant = Verb::meant(line.as_bytes());
            assert!(matches!(meant, None | Some(Verb::Other)), "{line:?}");
        }
    }

    #[test]
    fn a_refusal_is_one_reply_line() {
        let refusal = Command::parse(b"").map(|c| c.verb).unwrap_err();
        assert_eq!(refusal.to_line(), b"500 5.5.2 Not a command\r\n");
        assert_eq!(
            Command::parse(b"NOOP").unwrap().envelope().unwrap_err(),
            NOT_ENVELOPE
        );
    }

    proptest! {
        /// Total on any octets, and no control passes whatever the verb.
        #[test]
        fn controls_never_pass(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            if Command::parse(&line).is_ok() {
                prop_assert!(!line.iter().any(u8::is_ascii_control));
            }
        }
    }
}
