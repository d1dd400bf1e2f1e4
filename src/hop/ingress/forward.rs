//! XFORWARD towards the MTA: said before each transaction, which is as long as Postfix remembers it. It only
//! concerns the MTA's log, so whatever becomes of it, the mail goes on.

use tracing::warn;

use super::Ingress;
use crate::hop::client::End;
use crate::hop::introduce::{ClientAddress, command};
use crate::smtp::capability::Capabilities;
use crate::smtp::command::Command;

impl Ingress<'_> {
    fn forwards(&self) -> bool {
        self.site.listener.client_address == ClientAddress::Xforward
    }

    /// Keeps from the MTA's offer what it wants to be told.
    pub(super) fn note_forward(&mut self, offer: &Capabilities) {
        if self.forwards() {
            let line = command("XFORWARD", offer, *self.client.ends);
            self.xforward = line.map(Vec::into_boxed_slice);
            if self.xforward.is_none() {
                warn!("the MTA takes no XFORWARD from us");
            }
        }
    }

    /// A client that says HELO sees no offer: the MTA is asked for it in the client's name, unseen.
    pub(super) async fn ask_for_offer(&mut self, helo: &Command<'_>) -> Result<(), End> {
        if !self.forwards() || self.xforward.is_some() {
            return Ok(());
        }
        let reply = self
            .ask(&[b"EHLO ", helo.argument(), b"\r\n"].concat())
            .await?;
        if reply.is_positive() {
            self.note_forward(&Capabilities::of(&reply));
        }
        Ok(())
    }

    /// Tells the MTA whose transaction is about to begin.
    pub(super) async fn forward(&mut self) -> Result<(), End> {
        let Some(line) = self.xforward.take_if(|_| self.envelope.is_none()) else {
            return Ok(());
        };
        let reply = self.ask(&line).await?;
        if reply.code == 421 {
            return self.answer(reply);
        }
        if reply.is_positive() {
            self.xforward = Some(line);
        } else {
            warn!("the MTA refuses XFORWARD: {}", reply.text());
        }
        Ok(())
    }
}
