//! `safe_keywords`: what of the MTA's offer the configuration vouches for. Must not know how an offer is passed on.

use toml::Spanned;

use super::Wrong;
use crate::smtp::capability::UNDERSTOOD;

/// Keywords that only hoptrail can say, with what to do instead of vouching for them.
const OURS: [(&str, &str); 3] = [
    ("STARTTLS", "TLS with clients ends here: see tls"),
    ("AUTH", "it is shown by itself, where a login can pass"),
    (
        "TRACK",
        "it is hoptrail's own, and shown to whom the policy names",
    ),
];

/// Keywords of the MTA that no client may have: by the first three it would say itself who it is, by the others the
/// two sides turn round, lines are no lines any more, or a promise is made that two connections do not keep.
const HIDDEN: [&str; 9] = [
    "XCLIENT",
    "XFORWARD",
    "PROXY",
    "TURN",
    "ATRN",
    "BURL",
    "COMPRESS",
    "PIPECONNECT",
    "REQUIRETLS",
];

/// The keywords, each one that can be vouched for.
pub fn check(keywords: Vec<Spanned<String>>) -> Result<Vec<String>, Wrong> {
    let checked = keywords.into_iter().map(|keyword| {
        let start = keyword.span().start;
        let keyword = keyword.into_inner();
        match wrong_with(&keyword) {
            Some(why) => Err((start, format!("safe_keywords: {keyword:?}: {why}"))),
            None => Ok(keyword),
        }
    });
    checked.collect()
}

/// Why it cannot be vouched for, and what to do.
fn wrong_with(keyword: &str) -> Option<String> {
    let is = |known: &str| known.eq_ignore_ascii_case(keyword);
    if !is_keyword(keyword) {
        return Some(
            "no EHLO keyword, which is one word of letters, digits and - (\"XFOO\")".to_owned(),
        );
    }
    if let Some((_, cure)) = OURS.iter().find(|(known, _)| is(known)) {
        return Some(format!("{cure}; leave it out"));
    }
    if HIDDEN.into_iter().any(is) {
        return Some("not safe to pass through a proxy; leave it out".to_owned());
    }
    let understood = UNDERSTOOD.iter().copied().any(is);
    understood.then(|| "hoptrail knows it, and shows it by itself; leave it out".to_owned())
}

/// RFC 5321, 4.1.1.1: `ehlo-keyword`.
fn is_keyword(text: &str) -> bool {
    let within = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    text.bytes().all(within) && text.bytes().next().is_some_and(|b| b != b'-')
}
