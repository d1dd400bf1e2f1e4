//! What the record of a domain's key says of its own use (DKIM, RFC 6376, 3.6.1). The verifier takes the key out of it
//! and holds signatures to `t=s`; what else the record says, it passes over.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Octets of an Ed25519 key (RFC 8463, 4). The verifier takes any number for one.
const ED25519_OCTETS: usize = 32;

/// Whether a signature of a mail, made with SHA-256, counts by the key in this record. A record that is meant for other
/// services or hashes is as none, and one that is only being tried has its mail judged as if nobody signed it.
pub fn is_for_mail(record: &str) -> bool {
    tags(record).is_some_and(|tags| allows(&tags))
}

/// Names and values in their order; `None` if it is no list of tags, or has one twice (RFC 6376, 3.2).
fn tags(record: &str) -> Option<Vec<(&str, &str)>> {
    let list = record.trim_ascii();
    let list = list.strip_suffix(';').unwrap_or(list).split(';');
    let split = list.map(|tag| {
        let (name, value) = tag.split_once('=')?;
        Some((name.trim_ascii(), value.trim_ascii()))
    });
    let tags: Vec<(&str, &str)> = split.collect::<Option<_>>()?;
    let names: BTreeSet<&str> = tags.iter().map(|(name, _)| *name).collect();
    (names.len() == tags.len()).then_some(tags)
}

fn allows(tags: &[(&str, &str)]) -> bool {
    let value = |wanted| {
        let mut found = tags.iter().filter(|(name, _)| *name == wanted);
        found.next().map(|(_, value)| *value)
    };
    let lists = |name, one_of: &[&str]| {
        let items = value(name).map(|list| list.split(':').map(str::trim_ascii));
        items.map(|mut items| items.any(|item| one_of.contains(&item)))
    };
    let first = tags.first() == Some(&("v", "DKIM1"));
    let is_key = match value("k") {
        None | Some("rsa") => true,
        Some("ed25519") => value("p").is_none_or(can_be_ed25519),
        Some(_) => false,
    };
    (first || value("v").is_none())
        && is_key
        && lists("s", &["*", "email"]) != Some(false)
        && lists("h", &["sha256"]) != Some(false)
        && lists("t", &["y"]) != Some(true)
}

/// Whether it can be such a key, or is the nothing of a revoked one.
fn can_be_ed25519(value: &str) -> bool {
    let mut text = value.to_owned();
    text.retain(|c| !c.is_ascii_whitespace());
    let length = STANDARD.decode(&text).map(|key| key.len());
    text.is_empty() || length == Ok(ED25519_OCTETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_its_key_is_for() {
        for (record, counts) in [
            ("p=AAAA", true),
            ("v=DKIM1; p=AAAA;", true),
            (" v = DKIM1 ;\tk = rsa; n=a note; x=y; p=AA AA ", true),
            ("p=AAAA; v=DKIM1", false),
            ("v=DKIM2; p=AAAA", false),
            ("v=dkim1; p=AAAA", false),
            ("v=; p=AAAA", false),
            ("s=*; p=AAAA", true),
            ("s=tlsrpt : email; p=AAAA", true),
            ("s=tlsrpt; p=AAAA", false),
            ("s=emails; p=AAAA", false),
            ("s=; p=AAAA", false),
            ("S=tlsrpt; p=AAAA", true),
            ("h=sha1:sha256; p=AAAA", true),
            ("h=sha1; p=AAAA", false),
            ("h=; p=AAAA", false),
            ("t=y; p=AAAA", false),
            ("t=s : y; p=AAAA", false),
            ("t=s; p=AAAA", true),
            ("t=; p=AAAA", true),
            ("k=none; p=AAAA", false),
            ("k=; p=AAAA", false),
            ("k=ed25519; p=AAAA", false),
            ("k=ed25519; p=", true),
            ("s=email; s=tlsrpt; p=AAAA", false),
            ("p=AAAA; junk", false),
            ("p=AAAA;;", false),
            ("", false),
        ] {
            assert_eq!(is_for_mail(record), counts, "{record:?}");
        }
        let key = STANDARD.encode([7; ED25519_OCTETS]);
        assert!(is_for_mail(&format!("v=DKIM1; k=ed25519; p= {key}")));
    }
}
