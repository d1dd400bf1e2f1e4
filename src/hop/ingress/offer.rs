//! What the MTA offers, with what every message asks of it looked up once, at the hello. An MTA says the same to
//! most of its clients, so their sessions hold the same piece of memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::smtp::capability::Capabilities;
use crate::smtp::reply::Reply;

/// The MTA's reply to an EHLO.
#[derive(Debug)]
pub struct Offer {
    /// All of it.
    pub keywords: Capabilities,
    /// It takes a request to track.
    pub tracks: bool,
    /// It takes the parameters of RFC 3461.
    pub dsn: bool,
}

impl From<Capabilities> for Offer {
    fn from(keywords: Capabilities) -> Self {
        Self {
            tracks: keywords.offers_track(),
            dsn: keywords.offers("DSN"),
            keywords,
        }
    }
}

/// The last offer that the MTA behind a listener made.
#[derive(Debug, Default)]
pub struct Offers(Mutex<Option<Arc<Offer>>>);

impl Offers {
    /// What this reply offers.
    pub fn of(&self, reply: &Reply) -> Arc<Offer> {
        let keywords = Capabilities::of(reply);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(offer) if offer.keywords == keywords => Arc::clone(offer),
            _ => Arc::clone(last.insert(Arc::new(keywords.into()))),
        }
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
        let dsn = offers.of(&offering("DSN"));
        assert!(Arc::ptr_eq(&dsn, &offers.of(&offering("DSN"))));
        let track = offers.of(&offering("TRACK NOW"));
        assert!(dsn.dsn && !dsn.tracks && !track.dsn && track.tracks);
        assert!(Arc::ptr_eq(&track, &offers.of(&offering("TRACK NOW"))));
    }
}
