//! Header additions and removals, and who the header says is to get the message.

#![allow(clippy::unwrap_used)]

use super::*;

const MS: i64 = 1_795_478_400_000;

fn finished(text: &str) -> String {
    let message = Draft::parse(text.as_bytes())
        .unwrap()
        .finish("example.com", 0xabc, MS)
        .unwrap();
    String::from_utf8(message.octets).unwrap()
}

fn recipients(header: &str) -> Result<Vec<String>, MessageError> {
    let draft = Draft::parse(format!("{header}\n\ntext To: no@no.no\n").as_bytes())?;
    Ok(draft
        .recipients(None)?
        .iter()
        .map(ToString::to_string)
        .collect())
}

#[test]
fn what_is_missing_is_put_on_top() {
    let text = finished("Subject: x\n\nhello\n");
    let (added, rest) = text.split_at(text.find("Subject").unwrap());
    assert_eq!(rest, "Subject: x\r\n\r\nhello\r\n");
    let (id, date) = added.split_once("\r\n").unwrap();
    assert_eq!(id, format!("Message-ID: <{:032x}@example.com>", 0xabc));
    let date = date.strip_prefix("Date: ").unwrap().trim_end();
    let read = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(date)
        .unwrap();
    assert_eq!(read.as_millisecond(), MS);
}

#[test]
fn what_is_there_stays_octet_for_octet() {
    let text = "DATE : whenever\r\nX:\t odd  \r\n folded\r\nmessage-id:\r\n <a@b>\r\n\r\n\r\nbody";
    assert_eq!(finished(text), format!("{text}\r\n"));
    let header_only = "Date: x\r\nMessage-ID: <a@b>\r\n";
    assert_eq!(finished(header_only), header_only);
    let no_header = finished("\nhello");
    assert!(no_header.ends_with("\r\n\r\nhello\r\n") && no_header.starts_with("Message-ID: <"));
}

#[test]
fn bcc_is_removed_whole_and_nothing_else() {
    let text = "Date: x\nBcc: a@b.c,\n\td@e.f\nMessage-ID: <a@b>\nBCC: g@h.i\nX-Bcc: stays\n\nBcc: stays\n";
    let out = "Date: x\r\nMessage-ID: <a@b>\r\nX-Bcc: stays\r\n\r\nBcc: stays\r\n";
    assert_eq!(finished(text), out);
}

#[test]
fn the_message_id_is_read_without_brackets() {
    for (field, id) in [
        ("<a@b>", "a@b"),
        (" <a@b> (comment)", "a@b"),
        ("\r\n\t<a@b>", "a@b"),
        ("a@b", "a@b"),
        ("< a@b", "a@b"),
    ] {
        let text = format!("Message-ID:{field}\r\n\r\n");
        let message = Draft::parse(text.as_bytes())
            .unwrap()
            .finish("h", 0, MS)
            .unwrap();
        assert_eq!(message.id.as_deref(), Some(id), "{field}");
    }
    for field in ["", " ", "<>", "<a\0b>", "<a\u{7}>"] {
        let text = format!("Message-ID:{field}\r\n\r\n");
        let refused = Draft::parse(text.as_bytes()).unwrap().finish("h", 0, MS);
        assert_eq!(refused.unwrap_err(), MessageError::MessageId, "{field:?}");
    }
}

/// Each hop takes the same for the id of a message, or none.
#[test]
fn an_id_that_no_report_can_carry_is_none() {
    let long = format!("<{}@b>", "a".repeat(250));
    for field in ["<jörg@b>", "<a b@c>", "a b", "<a<b@c>", &long] {
        let text = format!("Message-ID: {field}\r\n\r\n");
        let message = Draft::parse(text.as_bytes()).unwrap().finish("h", 0, MS);
        assert_eq!(message.unwrap().id, None, "{field}");
    }
}

#[test]
fn recipients_come_from_all_three_fields_in_every_form() {
    let header = "To: Bob <bob@example.org>, plain@example.org,\n =?utf-8?q?J=C3=B6rg?= \
                  <joerg@example.org>\nTo: second@example.org\nCc: friends: a@example.org,\n \
                  \"B, b\" <b@example.org>;, bob@example.org\nBcc: (secret) eve@example.org (Eve)\n\
                  Reply-To: not@example.org";
    assert_eq!(
        recipients(header).unwrap(),
        [
            "bob@example.org",
            "plain@example.org",
            "joerg@example.org",
            "second@example.org",
            "a@example.org",
            "b@example.org",
            "eve@example.org"
        ]
    );
}

#[test]
fn recipients_that_cannot_be_meant_are_refused() {
    for (header, told) in [
        ("To: undisclosed-recipients:;", MessageError::NoRecipients),
        ("Subject: x", MessageError::NoRecipients),
    ] {
        assert_eq!(recipients(header).unwrap_err(), told, "{header}");
    }
    for header in [
        "To: nobody",
        "To: a@b.c, <not an address>",
        "Cc: \"john doe\"@example.org",
    ] {
        let refused = recipients(header);
        assert!(
            matches!(refused, Err(MessageError::Recipient(..))),
            "{header}: {refused:?}"
        );
    }
}

#[test]
fn the_sender_is_the_one_address_in_from() {
    let sender = |from: &str| {
        let draft = Draft::parse(format!("{from}\n\n").as_bytes()).unwrap();
        draft.sender(None).map(|a| a.to_string())
    };
    assert_eq!(sender("From: A <a@b.c>").unwrap(), "a@b.c");
    assert_eq!(sender("fROM:\n a@b.c (A)").unwrap(), "a@b.c");
    for from in [
        "From: a@b.c, d@e.f",
        "From: nobody",
        "Sender: a@b.c",
        "From:",
    ] {
        assert_eq!(sender(from), Err(MessageError::From), "{from}");
    }
}

#[test]
fn a_line_that_is_no_field_is_named() {
    for (text, line) in [
        ("hello\n", 1),
        (" continues nothing\n", 1),
        ("Subject: x\nFrom alice Mon Nov 23\n\n", 2),
        ("Subject: x\n: empty\n", 2),
        ("Sübject: x\n", 1),
        ("a b: x\n", 1),
    ] {
        let refused = Draft::parse(text.as_bytes()).unwrap_err();
        assert_eq!(refused, MessageError::NotAField(line), "{text}");
    }
}

#[test]
fn ids_get_a_host_part_that_fits() {
    let host = |sender: &str, own| id_host(Some(&sender.parse().unwrap()), own).to_owned();
    assert_eq!(host("a@example.com", "own"), "example.com");
    assert_eq!(host("a@[127.0.0.1]", "own.example"), "own.example");
    assert_eq!(host("a@münchen.example", ""), "localhost");
    let long = format!("a@{}.example", "x".repeat(60));
    assert_eq!(host(&long, "own"), "own");
}

#[test]
fn a_message_sent_again_goes_to_its_resent_fields() {
    let header =
        "To: first@example.org\nResent-To: second@example.org\nResent-Cc: third@example.org";
    assert_eq!(
        recipients(header).unwrap(),
        ["second@example.org", "third@example.org"]
    );
}

#[test]
fn names_without_a_domain_get_the_one_there_is() {
    let all = |text| {
        addresses(text, "here.test").map(|all| {
            all.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    for (text, expected) in [
        ("root", "root@here.test"),
        ("<root>", "root@here.test"),
        ("Bob <bob@x.test>, root", "bob@x.test root@here.test"),
        ("bob@x.test (Bob)", "bob@x.test"),
        ("friends: a, b@x.test;", "a@here.test b@x.test"),
    ] {
        assert_eq!(all(text).as_deref(), Ok(expected), "{text}");
    }
    for text in [
        "",
        ",",
        "a b",
        "a@b@c",
        "@x.test",
        "a\r\nCc: b",
        "a@x.test,\0",
    ] {
        assert!(all(text).is_err(), "{text:?}: {:?}", all(text));
    }
    let draft = Draft::parse(b"From: root (Cron Daemon)\n\n").unwrap();
    assert_eq!(
        draft.sender(Some("here.test")).unwrap().to_string(),
        "root@here.test"
    );
    assert!(draft.sender(None).is_err());
}
