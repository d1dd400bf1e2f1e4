//! The queue id in the text of a final reply. Every MTA puts it in words of its own; these are the
//! shapes seen from Postfix, Exim, `OpenSMTPD`, Sendmail and Dovecot. A stranger's text: only what looks
//! like an id comes out.

use memchr::memchr2_iter;

/// The id in one line of text, which stands without its enhanced status code.
pub(super) fn find(text: &str) -> Option<&str> {
    queued_as(text)
        .or_else(|| id_equals(text))
        .or_else(|| accepted(text))
        .or_else(|| saved(text))
}

/// Postfix and many others: `Ok: queued as ID`, `Ok: 403 bytes queued as ID`.
fn queued_as(text: &str) -> Option<&str> {
    const WORDS: &[u8] = b"queued as ";
    let here = |at: &usize| {
        let words = text.as_bytes()[*at..].get(..WORDS.len());
        words.is_some_and(|words| words.eq_ignore_ascii_case(WORDS))
    };
    let at = memchr2_iter(b'q', b'Q', text.as_bytes()).find(here)?;
    text.get(at + WORDS.len()..)?.split(' ').next().and_then(id)
}

/// Exim: `OK id=ID`.
fn id_equals(text: &str) -> Option<&str> {
    text.split(' ')
        .find_map(|word| word.strip_prefix("id="))
        .and_then(id)
}

/// `OpenSMTPD` and Sendmail: `ID Message accepted for delivery`.
fn accepted(text: &str) -> Option<&str> {
    text.strip_suffix(" Message accepted for delivery")
        .and_then(id_not_word)
}

/// Dovecot's LMTP: `<recipient> ID Saved`, or without the recipient.
fn saved(text: &str) -> Option<&str> {
    let text = text.strip_suffix(" Saved")?;
    match text.rsplit_once(' ') {
        Some((recipient, word)) if recipient.starts_with('<') && recipient.ends_with('>') => {
            id(word)
        }
        Some(_) => None,
        None => id_not_word(text),
    }
}

/// An id where a sentence may start instead: "Message Saved" names none, so it must hold a digit.
fn id_not_word(word: &str) -> Option<&str> {
    id(word).filter(|id| id.bytes().any(|b| b.is_ascii_digit()))
}

/// The word without the punctuation of its sentence, if it can be an id.
fn id(word: &str) -> Option<&str> {
    let word = word.trim_end_matches(['.', ',', ';', ')', '>']);
    let fit = word
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"./:+_-".contains(&b));
    (fit && matches!(word.len(), 4..=64)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_words_of_the_known_mtas() {
        for (text, expected) in [
            ("Ok: queued as 138309B2004", "138309B2004"),
            ("Ok: 403 bytes queued as 0B0B099636B", "0B0B099636B"),
            ("OK, Queued as 4XyZ-1/a.", "4XyZ-1/a"),
            ("from MTA: 250 2.0.0 Ok: queued as 3F2A1 (x)", "3F2A1"),
            ("OK id=1xVXDd-0006GV-0J", "1xVXDd-0006GV-0J"),
            ("5ac54a5b Message accepted for delivery", "5ac54a5b"),
            (
                "6ANGmfmB024090 Message accepted for delivery",
                "6ANGmfmB024090",
            ),
            (
                "<bob@da.test> 06p8EGluBGssXgAAQX/gIQ Saved",
                "06p8EGluBGssXgAAQX/gIQ",
            ),
            (
                "<\"b b\"@da.test> 06p8EGluBGssXgAAQX/gIQ:T2 Saved",
                "06p8EGluBGssXgAAQX/gIQ:T2",
            ),
            (
                "06p8EGluBGssXgAAQX/gIQ:T4 Saved",
                "06p8EGluBGssXgAAQX/gIQ:T4",
            ),
        ] {
            assert_eq!(find(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_words_name_no_id() {
        for text in [
            "",
            "Ok",
            "Message accepted for delivery",
            "Your Message accepted for delivery",
            "Message Saved",
            "mail was Saved",
            "queued as ",
            "queued as abc",
            "queued as <script>",
            "grid=12345",
            "id=\u{e9}\u{e9}12345",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
        let long = format!("queued as {}", "a".repeat(65));
        assert_eq!(find(&long), None);
        assert_eq!(find(&long[..long.len() - 1]), Some(&long[10..74]));
    }
}
