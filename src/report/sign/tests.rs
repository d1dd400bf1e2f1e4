//! Signatures against what the RFCs print; that others verify them is shown in tests/signed.rs.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// RFC 8463, A.1.
const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

/// The mail of the vector in the documentation.
const MAIL: &str = "From: hop reports at mx1 <hoptrail@football.example.com>\r\n\
     To: <alice@example.org>\r\nSubject: Mail trail:  passed mx1\r\n\r\nYour message  passed.\r\n\r\n\r\n";

fn signer() -> Signer {
    let seed = STANDARD.decode(SEED).unwrap().try_into().unwrap();
    Signer::new(
        "football.example.com".to_owned(),
        "brisbane".to_owned(),
        Key::from_pem(&generate_ed25519(seed)).unwrap(),
    )
}

fn field_of(mail: &[u8]) -> String {
    signer().field(mail, 1_528_637_909_000_000).unwrap()
}

#[test]
fn the_key_of_rfc_8463_has_the_record_of_rfc_8463() {
    assert_eq!(
        signer().record_name(),
        "brisbane._domainkey.football.example.com"
    );
    assert_eq!(
        signer().key().record(),
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    );
}

/// The vector that the module's documentation publishes, which shows the mail and the field.
#[test]
fn the_published_vector_holds() {
    let documented = |text: &str| {
        let lines = include_str!("../sign.rs").lines();
        let lines: Vec<_> = lines.filter_map(|l| l.strip_prefix("//! ")).collect();
        let wanted: Vec<_> = text.split("\r\n").filter(|l| !l.is_empty()).collect();
        assert!(
            lines.windows(wanted.len()).any(|found| found == wanted),
            "not in the documentation:\n{text}"
        );
    };
    documented(&field_of(MAIL.as_bytes()));
    documented(MAIL.split("\r\n\r\n").next().unwrap());
    let signed = sign(MAIL.as_bytes(), &[signer()], 1_528_637_909_000_000).unwrap();
    assert_eq!(signed, (field_of(MAIL.as_bytes()) + MAIL).as_bytes());
}

/// RFC 6376, 3.4.5 and 3.4.3.
#[test]
fn relaxed_forms_are_those_of_rfc_6376() {
    let header = Header::of(b"A: X\r\nB : Y\t\r\n\tZ  \r\n");
    let relaxed: Vec<_> = ["A", "B"].iter().flat_map(|n| header.all(n)).collect();
    assert_eq!(relaxed.concat(), b"a:X\r\nb:Y Z\r\n");
    for (body, relaxed) in [
        (&b" C \r\nD \t E\r\n\r\n\r\n"[..], &b" C\r\nD E\r\n"[..]),
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b"no end of line", b"no end of line\r\n"),
        (b"\r\n \t\r\na", b"\r\n\r\na\r\n"),
    ] {
        assert_eq!(relaxed_body(body), relaxed);
    }
}

/// Each field once more than it stands there, so that none can be added.
#[test]
fn every_field_that_matters_is_covered_and_closed() {
    let field = field_of(MAIL.as_bytes()).replace("\r\n ", " ");
    let (_, list) = field.split_once("h=").unwrap();
    let list = list.split(';').next().unwrap().replace(' ', "");
    let count = |name: &str| list.split(':').filter(|n| *n == name).count();
    for name in SIGNED {
        let there = ["From", "To", "Subject"].contains(&name);
        assert_eq!(count(name), if there { 2 } else { 1 }, "{name} in {list}");
    }
}

proptest! {
    /// A signature is a field of its own, in lines that any server passes on.
    #[test]
    fn any_octets_are_signed(mail in any::<Vec<u8>>(), at_us in any::<i64>()) {
        let field = signer().field(&mail, at_us).unwrap();
        prop_assert!(field.is_ascii() && field.ends_with("\r\n"));
        for (n, line) in field.split_terminator("\r\n").enumerate() {
            prop_assert!(line.len() <= 78 && !line.contains(['\r', '\n']), "{line}");
            prop_assert_eq!(n > 0, line.starts_with(' '));
        }
    }

    /// What a relay may do to blanks changes nothing; anything else does.
    #[test]
    fn relays_may_refold(word in "[a-z]{1,8}", other in "[a-z]{1,8}") {
        prop_assume!(word != other);
        let mail = |subject: &str, body: &str| {
            field_of(format!("Subject: {subject}\r\n\r\n{body}").as_bytes())
        };
        let plain = mail(&format!("a {word} b"), &format!("{word} text\r\n"));
        let refolded = mail(&format!("a\r\n\t{word}  b "), &format!("{word} \t text  \r\n\r\n"));
        prop_assert_eq!(&plain, &refolded);
        prop_assert_ne!(&plain, &mail(&format!("a {other} b"), &format!("{word} text\r\n")));
        prop_assert_ne!(&plain, &mail(&format!("a {word} b"), &format!("{other} text\r\n")));
    }
}

#[test]
fn what_is_no_key_is_refused() {
    for text in [
        "",
        "no key",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert_eq!(Key::from_pem(text).err(), Some(KeyError::NoKey));
    }
    for text in [
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\n%\n-----END PRIVATE KEY-----\n",
    ] {
        let error = Key::from_pem(text).err();
        assert!(
            matches!(error, Some(KeyError::Refused(_))),
            "{text}: {error:?}"
        );
    }
}
