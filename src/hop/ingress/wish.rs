//! Requests that MAIL did not bring: a field in the header of the message, or a rule of the configuration
//! (`track::wish`). Both count for clients that may ask, and for nobody else.
//!
//! At MAIL there is room made for the carry header, at RCPT a rule may come to fit, and when the header block
//! is there the request is granted. By then the MTA has its MAIL, so such a request crosses it by carry header
//! whatever the MTA offers.

use tracing::info;

use super::Ingress;
use crate::hop::head::Head;
use crate::hop::header::field_value;
use crate::hop::transaction::{Envelope, Tracked};
use crate::hop::{Site, random};
use crate::smtp::data::{header_fields, takes_field_before};
use crate::smtp::envelope::EnvelopeCommand;
use crate::track::wish::Wish;
use crate::track::{Asked, TrackRequest};

impl Ingress<'_> {
    /// What may ask for tracking of the transaction that this MAIL opens.
    pub(super) fn wish(&self, mail: &EnvelopeCommand<'_>) -> Option<Wish> {
        let (wishes, from) = (&self.site.listener.wishes, mail.mailbox());
        if wishes.is_empty() || from.is_empty() || self.site.asker(self.client).is_none() {
            return None;
        }
        let lot = random::number()?;
        wishes.at_mail(from, lot)
    }

    /// The wish of the transaction with this recipient in it.
    pub(super) fn wish_with(&self, rcpt: &EnvelopeCommand<'_>) -> Option<Wish> {
        let envelope = self.envelope.as_ref()?;
        let Some(Wish::Open { lot }) = envelope.wish else {
            return envelope.wish;
        };
        let wishes = &self.site.listener.wishes;
        let asks = wishes.at_rcpt(&envelope.reverse_path, rcpt.mailbox(), lot);
        if asks {
            Some(Wish::Ruled)
        } else {
            envelope.wish
        }
    }
}

/// Takes the field that asks out of the header of a client that may ask: it was meant for this hop alone. If
/// it is malformed the mail goes untracked, since its sender could not be told at MAIL.
///
/// A stranger's field is neither honoured nor taken out: it asks nothing of us, and a stranger's mail passes as
/// it is.
pub fn take_request(site: &Site, head: &mut Head) -> Option<TrackRequest> {
    let name = site.listener.wishes.header.as_deref()?;
    let block = head.block();
    let fields: Vec<_> = header_fields(block)
        // Behind a line that is no field others see the body begin.
        .take_while(|field| takes_field_before(&block[field.clone()]))
        .filter_map(|field| Some((bare(field_value(&block[field.clone()], name)?), field)))
        .collect();
    let asked = match fields.as_slice() {
        [] => return None,
        [(value, _)] => TrackRequest::parse(value).map_err(|error| error.to_string()),
        _ => Err("it stands more than once".to_owned()),
    };
    for (_, field) in fields.into_iter().rev() {
        head.remove(field);
    }
    asked
        .inspect_err(|why| info!(hop = %site.hop.hostname, "{name}: {why}: untracked"))
        .ok()
}

/// The tracking of a message that nobody has asked for in another way: `asked` is what its header
/// says, `by` who sent it. One that was at this hop before comes by a ring, which needs no telling anew each round.
pub fn grant(
    site: &Site,
    asked: Option<TrackRequest>,
    by: Option<Asked>,
    envelope: &Envelope,
    header: &[u8],
) -> Option<Box<Tracked>> {
    if was_here(header, &site.hop.hostname) {
        return None;
    }
    let request = match envelope.wish? {
        Wish::Open { .. } => asked?,
        Wish::Ruled => asked.unwrap_or_default(),
    };
    site.honour(
        request,
        by?,
        &envelope.reverse_path,
        envelope.envid.as_deref(),
    )
}

/// Whether a Received field says that this host took the message (RFC 5321, 4.4: `by` and its name).
fn was_here(header: &[u8], host: &str) -> bool {
    let host = host.as_bytes();
    let by_host = |trace: &[u8]| {
        let mut words = trace
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        words.any(|word| word.eq_ignore_ascii_case(b"by"))
            && words
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(host))
    };
    header_fields(header)
        .filter_map(|field| field_value(&header[field], "Received"))
        .any(by_host)
}

/// A field's value without its blanks, folds and comments (RFC 5322, 3.2.2).
fn bare(value: &[u8]) -> Vec<u8> {
    let (mut text, mut depth, mut quoted) = (Vec::new(), 0_u32, false);
    for octet in value {
        match octet {
            _ if quoted => quoted = false,
            b'\\' if depth > 0 => quoted = true,
            b'(' => depth = depth.saturating_add(1),
            b')' if depth > 0 => depth -= 1,
            octet if depth == 0 && !octet.is_ascii_whitespace() => text.push(*octet),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_folds_and_comments_say_nothing() {
        for (value, text) in [
            (" NOW\r\n", "NOW"),
            ("NOW\r\n\t(please (soon)) \r\n", "NOW"),
            (
                " now :t/1\r\n :max/3 (\\) and ( so on) )\r\n",
                "now:t/1:max/3",
            ),
            ("(NOW) LATER", "LATER"),
            ("NOW (never ends", "NOW"),
            ("NOW )", "NOW)"),
            ("N\\OW", "N\\OW"),
            ("", ""),
        ] {
            assert_eq!(bare(value.as_bytes()), text.as_bytes(), "{value:?}");
        }
    }
}
