//! The second hello of a session, as after STARTTLS, where the MTA takes but one: `OpenSMTPD` says 503 to it.

use std::sync::Arc;

use super::Ingress;
use super::offer::Offer;
use crate::hop::client::End;
use crate::smtp::command::Verb;
use crate::smtp::reply::Reply;

impl Ingress<'_> {
    /// What the MTA has offered before, if it refuses another EHLO for that reason: it is brought to where an EHLO
    /// would bring it (RFC 5321, 4.1.4: no transaction), and its offer still stands.
    pub(super) async fn offer_to_a_second(
        &mut self,
        verb: Verb,
        reply: &Reply,
    ) -> Result<Option<Arc<Offer>>, End> {
        let again = verb == Verb::Ehlo && reply.code == 503;
        let Some(offer) = self.offer.clone().filter(|_| again) else {
            return Ok(None);
        };
        let reset = self.ask(b"RSET\r\n").await?;
        Ok(reset.is_positive().then_some(offer))
    }
}
