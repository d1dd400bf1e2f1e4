//! What the MTA offers, with what every message asks of it looked up once, at the hello. An MTA says the same to
//! most of its clients, so their sessions hold the same piece of memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::smtp::capability::{Capabilities, UNDERSTOOD};
use crate::smtp::reply::Reply;

/// Mechanisms whose exchange is lines and leaves the stream as it is. Others put a security layer
/// over it (RFC 4954, 4) or bind to a TLS channel that ends here.
const MECHANISMS: [&str; 7] = [
    "PLAIN",
    "LOGIN",
    "CRAM-MD5",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "XOAUTH2",
    "OAUTHBEARER",
];

/// The MTA's reply to an EHLO.
#[derive(Debug)]
pub struct Offer {
    /// All of it.
    pub keywords: Capabilities,
    /// It takes a request to track.
    pub tracks: bool,
    /// It takes the parameters of RFC 3461.
    pub dsn: bool,
    /// It takes the parameter of RFC 3885.
    pub mtrk: bool,
}

impl From<Capabilities> for Offer {
    fn from(keywords: Capabilities) -> Self {
        Self {
            tracks: keywords.offers_track(),
            dsn: keywords.offers("DSN"),
            mtrk: keywords.offers("MTRK"),
            keywords,
        }
    }
}

/// An offer and what of it clients may be shown: worked out once, and not held by their sessions.
#[derive(Debug)]
pub struct Shown {
    /// What the MTA offers.
    pub offer: Arc<Offer>,
    /// Its lines that pass as they are.
    pub lines: Capabilities,
    /// The line for clients that may log in, if any mechanism can be passed through.
    pub auth: Option<String>,
}

impl Shown {
    /// What passes of this offer; `safe` are the keywords that the configuration vouches for.
    pub fn of(offer: Arc<Offer>, safe: &[String]) -> Self {
        let vouched = |keyword: &str| safe.iter().any(|known| known.eq_ignore_ascii_case(keyword));
        let mut lines = offer.keywords.clone();
        lines.retain(|keyword| UNDERSTOOD.contains(&keyword) || vouched(keyword));
        Self {
            auth: auth(&offer.keywords),
            lines,
            offer,
        }
    }
}

/// The AUTH line with those mechanisms that can be passed through.
fn auth(offer: &Capabilities) -> Option<String> {
    let offered = String::from_utf8_lossy(offer.arguments("AUTH")?).to_ascii_uppercase();
    let words = offered.split_whitespace();
    let passed: Vec<&str> = words.filter(|m| MECHANISMS.contains(m)).collect();
    (!passed.is_empty()).then(|| format!("AUTH {}", passed.join(" ")))
}

/// The last offer that the MTA behind a listener made.
#[derive(Debug, Default)]
pub struct Offers(Mutex<Option<Arc<Shown>>>);

impl Offers {
    /// What this reply offers; `safe` is the same at every call.
    pub fn of(&self, reply: &Reply, safe: &[String]) -> Arc<Shown> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = last.as_ref().filter(|last| last.offer.keywords.is(reply)) {
            return Arc::clone(shown);
        }
        let offer = Arc::new(Capabilities::of(reply).into());
        Arc::clone(last.insert(Arc::new(Shown::of(offer, safe))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;
    use crate::smtp::reply::ReplyParse;

    fn offering(keyword: &str) -> Reply {
        let said = format!("250-mta.test\r\n250 {keyword}\r\n");
        match Reply::next(said.as_bytes(), said.len()) {
            ReplyParse::Complete { reply, .. } => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sessions_that_were_made_the_same_offer_share_it() {
        let offers = Offers::default();
        let of = |keyword| Arc::clone(&offers.of(&offering(keyword), &[]).offer);
        let dsn = of("DSN");
        assert!(Arc::ptr_eq(&dsn, &of("DSN")));
        let track = of("TRACK NOW");
        assert!(dsn.dsn && !dsn.tracks && !track.dsn && track.tracks);
        assert!(Arc::ptr_eq(&track, &of("TRACK NOW")));
    }

    #[test]
    fn clients_are_shown_what_passes() {
        let safe = ["X-Safe".to_owned()];
        let shown = |keyword| {
            let shown = Offers::default().of(&offering(keyword), &safe);
            String::from_utf8_lossy(shown.lines.clone().into_reply().raw()).into_owned()
        };
        for (keyword, passes) in [("dsn", true), ("x-safe 1", true), ("X-OTHER", false)] {
            assert_eq!(shown(keyword).contains(keyword), passes, "{keyword}");
        }
        let auth = |keyword| Offers::default().of(&offering(keyword), &[]).auth.clone();
        assert_eq!(
            auth("AUTH gssapi plain LOGIN").as_deref(),
            Some("AUTH PLAIN LOGIN")
        );
        assert_eq!(auth("AUTH GSSAPI"), None);
    }
}
