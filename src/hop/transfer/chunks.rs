//! A message that comes in chunks (BDAT, RFC 3030) at an egress or a delivery, from the first to the replies to
//! the last.
//!
//! The 250 to a chunk that is not the last is ours, and accepts nothing: it says that the octets came and that
//! more may. The client has its message until it hears the reply to the last chunk, and there each recipient
//! gets the next hop's own. A refusal that is known before, even of all, waits for that place too: only there is
//! a reply for each recipient. A message that the client does not bring to its last chunk is completed nowhere.

use super::{Known, Transfer};
use crate::hop::Site;
use crate::hop::chunk::{STRAY_CHUNK, Size};
use crate::hop::client::End;
use crate::hop::dispatch::{Dispatch, Peers};
use crate::hop::head::Head;
use crate::hop::leg::Framing;
use crate::hop::next_hop::Protocol;
use crate::hop::transaction::Mail;
use crate::smtp::command::Command;

/// How far the message has come.
pub(super) enum Chunks<'a> {
    /// Its header block is not whole: nothing has gone on.
    Held(Held),
    /// It is on its way.
    Flowing(Box<Flow<'a>>),
    /// A command was refused that belonged to it: nothing of it is wanted any more (RFC 3030, 2).
    Failed,
}

/// The start of a message.
pub(super) struct Held {
    text: Vec<u8>,
    /// When the first chunk came, µs.
    arrival_us: i64,
}

/// A message that goes on as it comes.
pub(super) struct Flow<'a> {
    dispatch: Dispatch<'a>,
    known: Known,
    /// Octets so far.
    octets: u64,
}

impl<'a> Flow<'a> {
    /// Opens the way; what of the start is to be sent comes back.
    async fn open(
        site: &'a Site,
        peers: &mut Peers,
        mail: &mut Mail,
        mut head: Head,
        arrival_us: i64,
    ) -> (Self, Vec<u8>) {
        let octets = head.text.len() as u64;
        let known = Known::of(site, mail, &mut head, arrival_us).await;
        let passage = known.passage.as_ref();
        let flow = Self {
            dispatch: Dispatch::open(site, peers, mail, passage, Framing::Chunks).await,
            known,
            octets,
        };
        (flow, head.text)
    }
}

impl<'a> Transfer<'a> {
    /// BDAT with its octets, which follow at once, whatever is answered.
    pub(super) async fn bdat(&mut self, command: &Command<'_>) -> Result<(), End> {
        let Some(size) = Size::parse(command.argument()) else {
            return Err(End::Refuse(Size::unreadable()));
        };
        let ready = self
            .mail
            .as_ref()
            .is_some_and(|mail| !mail.rcpts.is_empty());
        // Taken: if the client goes away in the chunk, what next hops have of the message goes too.
        match self.chunks.take() {
            None if ready => {
                let held = Held {
                    text: Vec::new(),
                    arrival_us: self.site.hop.clock.now_us(),
                };
                self.hold(held, size).await
            }
            Some(Chunks::Held(held)) => self.hold(held, size).await,
            Some(Chunks::Flowing(flow)) => self.pass(flow, Vec::new(), size).await,
            None | Some(Chunks::Failed) => self.stray(size).await,
        }
    }

    /// A chunk that belongs to no message: read, so that what follows is a command again. Over LMTP the last
    /// one has as many replies as recipients were taken (RFC 2033, 4.3); without any, one, as for DATA (4.2): a
    /// client that heard none would take the next command's for it.
    async fn stray(&mut self, size: Size) -> Result<(), End> {
        let hop = &self.site.hop;
        self.client.chunk(hop, size).await?.skip().await?;
        let lmtp = self.site.listener.protocol == Protocol::Lmtp;
        let replies = match &self.mail {
            Some(mail) if lmtp && size.last => mail.rcpts.len().max(1),
            _ => 1,
        };
        if self.mail.is_some() {
            self.chunks = Some(Chunks::Failed);
        }
        self.refuse(&STRAY_CHUNK)?;
        for _ in 1..replies {
            self.client.tell(&STRAY_CHUNK.to_line());
        }
        Ok(())
    }

    /// A chunk whose octets are held until the header block is whole; then the way is opened, and they go.
    async fn hold(&mut self, start: Held, size: Size) -> Result<(), End> {
        let (hop, arrival_us) = (&self.site.hop, start.arrival_us);
        let octets_max = hop.limits.leaving_header_octets_max();
        let mut chunk = self.client.chunk(hop, size).await?;
        let head = chunk.head(start.text, octets_max, size.last).await?;
        let octets = chunk.left();
        if head.goes_on() {
            let text = head.text;
            self.chunks = Some(Chunks::Held(Held { text, arrival_us }));
            self.client.say(250, "2.0.0", "Ok");
            return Ok(());
        }
        let Some(mail) = &mut self.mail else {
            return Ok(());
        };
        let (flow, text) = Flow::open(self.site, &mut self.peers, mail, head, arrival_us).await;
        let rest = Size { octets, ..size };
        self.pass(Box::new(flow), text, rest).await
    }

    /// A chunk on to the next hops, behind what was held; then the reply to it, or the replies to the last.
    async fn pass(
        &mut self,
        mut flow: Box<Flow<'a>>,
        start: Vec<u8>,
        size: Size,
    ) -> Result<(), End> {
        flow.octets = flow.octets.saturating_add(size.octets);
        let mut chunk = self.client.chunk(&self.site.hop, size).await?;
        flow.dispatch.chunk(start, &mut chunk, size.last).await?;
        if !size.last {
            self.chunks = Some(Chunks::Flowing(flow));
            self.client.say(250, "2.0.0", "Ok");
            return Ok(());
        }
        let Some(mail) = self.mail.take() else {
            return Ok(());
        };
        let Flow {
            dispatch,
            known,
            octets,
        } = *flow;
        self.conclude(mail, known, octets, dispatch).await
    }
}
