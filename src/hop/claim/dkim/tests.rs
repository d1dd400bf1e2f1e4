//! Which signatures are looked at. Whether they hold is asked of real name servers, in tests/strangers.rs.

use proptest::prelude::*;

use super::*;

fn signature(domain: &str, more: &str) -> String {
    format!(
        "DKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=s; h=Subject:From; bh=YQ==; b=YQ==; {more}\r\n"
    )
}

/// How many signatures of such a header block are looked at for a reverse-path in example.net.
fn looked_at(header: &str) -> usize {
    let header = format!("{header}From: a@example.net\r\n\r\n");
    aligned(header.as_bytes(), "news.example.net").map_or(0, |message| message.dkim_headers.len())
}

#[test]
fn only_what_may_speak_for_the_reverse_path_is_looked_at() {
    for (domain, more, counts) in [
        ("news.example.net", "", true),
        ("example.net", "", true),
        ("EXAMPLE.net", "i=@news.example.net", true),
        ("net", "", false),
        ("deep.news.example.net", "", false),
        ("s.example.net", "", false),
        ("ews.example.net", "", false),
        ("example.net", "i=@example.org", false),
        ("example.net", "h=Subject:Date", false),
        ("example.net", "a=rsa-sha1", false),
        ("example.net", "l=10", false),
    ] {
        let found = looked_at(&signature(domain, more));
        assert_eq!(found, usize::from(counts), "{domain} {more}");
    }
}

#[test]
fn so_many_and_no_more() {
    assert_eq!(
        looked_at(&signature("example.net", "").repeat(100)),
        SIGNATURES_MAX
    );
    assert_eq!(looked_at(""), 0);
}

proptest! {
    #[test]
    fn any_header_is_survived(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let header = [b"DKIM-Signature: v=1; d=example.net; ", octets.as_slice()].concat();
        let _ = aligned(&header, "example.net");
    }
}
