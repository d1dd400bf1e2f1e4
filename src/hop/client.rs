//! The client's side of a session, the same for both dialogues: its lines come in one by one, what it is
//! told leaves in one write when nothing more of it waits, and every way a session can end.

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll};

use thiserror::Error;
use tracing::{debug, warn};

use super::body::{Body, BodyError};
use super::chunk::{Chunk, Size};
use super::deadline::{Timer, Wait};
use super::limits::Limits;
use super::proxy::Ends;
use super::stopping::Stopping;
use super::tls::{ServerMode, ServerTls};
use super::wire::{Incoming, Wire, WireError};
use super::{Hop, Site};
use crate::smtp::command::Verb;
use crate::smtp::data::BareNewline;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::track::Security;

/// Octets of replies that may wait for the rest of a pipelined group; a client that does not read them waits too.
const OWED_MAX: usize = 4 * 1024;

/// How a command line begins that may be long.
const AUTH: &[u8] = b"AUTH ";

/// What a verb is answered with that a listener does not know.
pub const NOT_IMPLEMENTED: Refusal = Refusal {
    code: 502,
    status: "5.5.1",
    text: "command not implemented",
};
/// What a TRACK is answered with that came from a client that was offered it, and is wrong.
pub const MALFORMED_TRACK: Refusal = Refusal {
    code: 501,
    status: "5.5.4",
    text: "malformed TRACK parameter",
};
/// To what needs a hello between STARTTLS and the hello that has to follow it.
pub const HELLO_FIRST: Refusal = Refusal {
    code: 503,
    status: "5.5.1",
    text: "say hello again after STARTTLS",
};
const TLS_ALREADY: Refusal = Refusal {
    code: 503,
    status: "5.5.1",
    text: "TLS is on already",
};
const TLS_TOO_LATE: Refusal = Refusal {
    code: 503,
    status: "5.5.1",
    text: "STARTTLS comes before AUTH and MAIL",
};
const LINE_TOO_LONG: Refusal = Refusal {
    code: 500,
    status: "5.5.2",
    text: "line too long",
};

/// Why a session ends.
#[derive(Debug, Error)]
pub enum End {
    /// In good order: after QUIT, or after a 421 that was passed on.
    #[error("closed")]
    Done,
    /// The client went away.
    #[error("client: {0}")]
    Client(WireError),
    /// The mail server behind an ingress went away.
    #[error("next hop: {0}")]
    NextHop(WireError),
    /// The client cannot be followed any further; it is told so.
    #[error("refused: {}", .0.text())]
    Refuse(Reply),
}

impl From<BodyError> for End {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Client(error) => Self::Client(error),
            BodyError::NextHop(error) => Self::NextHop(error),
            BodyError::Bare => Self::Refuse(bare_newline(550)),
        }
    }
}

/// What a lone CR or LF is answered with (RFC 5321, 2.3.8): 500 in a command, 550 for a message.
pub fn bare_newline(code: u16) -> Reply {
    Reply::new(code, "5.5.2", "a line ends with CR LF, nothing else")
}

/// What a message is answered with that nobody asked for yet, or whose DATA was refused.
pub fn early_message() -> Reply {
    Reply::new(554, "5.5.0", "the message came before the reply to DATA")
}

/// What came while a command was awaited.
pub enum Heard {
    /// A command line with its CRLF.
    Line(Vec<u8>),
    /// The mail server spoke first, or went away.
    NextHop(Result<(), WireError>),
}

/// What a wait for the client's next octets came to.
enum Came {
    Octets(Result<(), WireError>),
    NextHop(Result<(), WireError>),
    Stop,
}

/// The client's side of a session.
pub struct Client {
    /// Where it connects from, and where it connected to.
    pub ends: Box<Ends>,
    /// It passed AUTH.
    pub authenticated: bool,
    /// What it said before STARTTLS is void, its hello too: the next one is still to come (RFC 3207, 4.2).
    pub hello_due: bool,
    wire: Wire,
    /// Replies not yet written: those to a pipelined group leave together.
    out: Vec<u8>,
    bad_commands: u32,
    stopping: Stopping,
}

impl Client {
    /// A client that has just connected.
    pub fn new(wire: Wire, ends: Ends) -> Self {
        Self {
            ends: Box::new(ends),
            authenticated: false,
            hello_due: false,
            wire,
            out: Vec::new(),
            bad_commands: 0,
            stopping: Stopping::default(),
        }
    }

    /// Waits for the next command line; what is due is written before. `next` is the mail server behind an
    /// ingress, which may speak unasked; `idle` lets the session end when hoptrail stops.
    pub async fn listen(
        &mut self,
        hop: &Hop,
        idle: bool,
        mut next: Option<&mut Wire>,
    ) -> Result<Heard, End> {
        // For all of a command, however it drips.
        let mut wait = Wait::For(hop.timeouts.client());
        loop {
            if self.out.len() > OWED_MAX {
                Box::pin(self.flush()).await?;
            }
            let too_long = match self.take_command(&hop.limits) {
                Some(Incoming::Line(line)) => return Ok(Heard::Line(line)),
                Some(Incoming::Bare) => return Err(End::Refuse(bare_newline(500))),
                Some(Incoming::TooLong) => true,
                None => false,
            };
            if too_long {
                Box::pin(self.skip_command(hop, &mut wait)).await?;
                continue;
            }
            self.flush().await?;
            let came = poll_fn(|context| {
                self.poll_came(hop, idle, next.as_deref_mut(), &mut wait, context)
            });
            match came.await {
                Came::Octets(read) => self.had(read)?,
                Came::NextHop(heard) => return Ok(Heard::NextHop(heard)),
                Came::Stop => {
                    return Err(End::Refuse(Reply::new(421, "4.3.2", "service is stopping")));
                }
            }
        }
    }

    async fn skip_command(&mut self, hop: &Hop, wait: &mut Wait) -> Result<(), End> {
        let meant = Verb::meant(self.wire.buffered());
        let skipped = self.wire.skip_line(wait).await;
        self.had(skipped)?;
        self.refuse_line(hop, meant, &LINE_TOO_LONG).await
    }

    /// The command line that waits, if a whole one does. AUTH may bring its initial response, and be as long as any
    /// line of its exchange (RFC 4954, 4).
    fn take_command(&mut self, limits: &Limits) -> Option<Incoming> {
        let taken = self.wire.take_line(limits.command_octets_max);
        let verb = self.wire.buffered().get(..AUTH.len());
        if taken == Some(Incoming::TooLong) && verb.is_some_and(|v| v.eq_ignore_ascii_case(AUTH)) {
            return self.wire.take_line(limits.auth_octets_max);
        }
        taken
    }

    fn poll_came(
        &mut self,
        hop: &Hop,
        idle: bool,
        next: Option<&mut Wire>,
        wait: &mut Wait,
        context: &mut Context<'_>,
    ) -> Poll<Came> {
        if let Poll::Ready(read) = self.wire.poll_fill_within(wait, context) {
            return Poll::Ready(Came::Octets(read));
        }
        if let Some(next) = next
            && let Poll::Ready(heard) = next.poll_fill(context)
        {
            return Poll::Ready(Came::NextHop(heard));
        }
        if idle && self.stopping.poll(hop, context).is_ready() {
            return Poll::Ready(Came::Stop);
        }
        Poll::Pending
    }

    /// The listener's TLS, if this client may still say STARTTLS.
    pub fn starttls<'a>(&self, site: &'a Site) -> Option<&'a ServerTls> {
        let tls = site.listener.tls.as_ref()?;
        (tls.mode == ServerMode::Starttls && !self.is_secure()).then_some(tls)
    }

    /// Whether the connection is under TLS.
    pub fn is_secure(&self) -> bool {
        self.wire.is_secure()
    }

    /// What protects the connection.
    pub fn security(&self) -> Security {
        self.wire.security()
    }

    /// Answers STARTTLS, and goes over to TLS where that is offered; true if it did. A login or an open
    /// transaction would have to be forgotten by the MTA too, which knows of no TLS here: refused.
    pub async fn start_tls(&mut self, site: &Site, in_transaction: bool) -> Result<bool, End> {
        let Some(tls) = self.starttls(site) else {
            let refusal = if self.is_secure() {
                TLS_ALREADY
            } else {
                NOT_IMPLEMENTED
            };
            return self.refuse(&site.hop, &refusal).map(|()| false);
        };
        if in_transaction || self.authenticated {
            return self.refuse(&site.hop, &TLS_TOO_LATE).map(|()| false);
        }
        if !self.wire.buffered().is_empty() {
            return Err(End::Refuse(Reply::new(
                554,
                "5.5.0",
                "nothing may follow STARTTLS before the handshake",
            )));
        }
        self.say(220, "2.0.0", "ready to start TLS");
        self.flush().await?;
        let limit = site.hop.timeouts.handshake();
        let done = tls.accept(&mut self.wire, limit).await;
        done.map_err(End::Client)?;
        self.hello_due = true;
        Ok(true)
    }

    /// Goes over to TLS before the first word.
    pub async fn implicit_tls(&mut self, site: &Site, tls: &ServerTls) -> Result<(), WireError> {
        let handshake = tls.accept(&mut self.wire, site.hop.timeouts.handshake());
        Box::pin(handshake).await
    }

    /// A line that is no command: an answer in an AUTH exchange.
    pub async fn response(&mut self, hop: &Hop) -> Result<Vec<u8>, End> {
        self.flush().await?;
        let mut wait = Wait::For(hop.timeouts.client());
        loop {
            match self.wire.take_line(hop.limits.auth_octets_max) {
                Some(Incoming::Line(line)) => return Ok(line),
                Some(_) => {
                    let broken = Reply::new(500, "5.5.6", "AUTH response too long or broken");
                    return Err(End::Refuse(broken));
                }
                None => {
                    let read = self.wire.fill_within(&mut wait).await;
                    read.map_err(End::Client)?;
                }
            }
        }
    }

    /// Whether octets came with or behind a DATA that is not answered yet: nobody may pipeline a message
    /// (RFC 2920, 3.1), and whoever does may be hiding something in it.
    pub fn is_early(&self) -> bool {
        !self.wire.buffered().is_empty()
    }

    /// Answers a line that is no command, but was meant as one.
    pub async fn refuse_line(
        &mut self,
        hop: &Hop,
        meant: Option<Verb>,
        refusal: &Refusal,
    ) -> Result<(), End> {
        match meant {
            Some(Verb::Data) => self.refuse_data(hop, refusal).await,
            Some(Verb::Bdat) => Err(End::Refuse(Size::unreadable())),
            _ => self.refuse(hop, refusal),
        }
    }

    /// Answers a DATA that goes no further, as [`refuse`](Self::refuse) does.
    pub async fn refuse_data(&mut self, hop: &Hop, refusal: &Refusal) -> Result<(), End> {
        self.refuse(hop, refusal)?;
        self.ends_group().await
    }

    /// Whether a DATA that is refused was the last of its group, as it has to be (RFC 2920, 3.1); its reply is not
    /// written yet. What came behind it is the text of a message: followed, it would have its author give the commands.
    pub async fn ends_group(&mut self) -> Result<(), End> {
        // What the system still holds was sent before the reply, too. An end of the stream is met again.
        poll_fn(|context| {
            let _ = self.wire.poll_fill(context);
            Poll::Ready(())
        })
        .await;
        if self.is_early() {
            return Err(End::Refuse(early_message()));
        }
        Ok(())
    }

    /// The message behind a 354, which is written first.
    pub async fn body(&mut self, hop: &Hop, policy: BareNewline) -> Result<Body<'_>, End> {
        self.flush().await?;
        Ok(Body::new(
            &mut self.wire,
            policy,
            hop.timeouts.client(),
            hop.clock,
        ))
    }

    /// The octets behind a BDAT; what is due is written first.
    pub async fn chunk(&mut self, hop: &Hop, size: Size) -> Result<Chunk<'_>, End> {
        self.flush().await?;
        Ok(Chunk::new(&mut self.wire, size, hop.timeouts.client()))
    }

    /// Says these octets when it is time.
    pub fn tell(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    /// Passes a reply on when it is time.
    pub fn answer(&mut self, reply: Reply) {
        if self.out.is_empty() {
            self.out = reply.into_raw();
        } else {
            self.tell(reply.raw());
        }
    }

    /// Says a reply of our own.
    pub fn say(&mut self, code: u16, status: &str, text: &str) {
        self.tell(Reply::new(code, status, text).raw());
    }

    /// Answers a command that goes no further; a client that only sends such is let go.
    pub fn refuse(&mut self, hop: &Hop, refusal: &Refusal) -> Result<(), End> {
        self.bad_commands += 1;
        if self.bad_commands > hop.limits.bad_commands_max {
            return Err(End::Refuse(Reply::new(
                421,
                "4.7.0",
                "too many bad commands",
            )));
        }
        self.tell(&refusal.to_line());
        Ok(())
    }

    /// The timer of this side, for a wait in which nothing is awaited from the client.
    pub fn timer(&mut self) -> &mut Timer {
        self.wire.timer()
    }

    /// Lends the timer of this side to the other one, which is to be waited for instead.
    pub fn lend_timer(&mut self, next: &mut Wire) {
        next.take_timer_of(&mut self.wire);
    }

    /// Takes it back.
    pub fn take_timer_back(&mut self, next: &mut Wire) {
        self.wire.take_timer_of(next);
    }

    /// Whether replies are due that are not written yet.
    pub fn is_owed(&self) -> bool {
        !self.out.is_empty()
    }

    /// Writes what is due. Kept small, because a session that waits holds the room for it.
    pub fn flush(&mut self) -> impl Future<Output = Result<(), End>> {
        let (mut written, mut wait) = (0, self.wire.write_wait());
        poll_fn(move |context| {
            if self.out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut rest = &self.out[written..];
            let sent = self.wire.poll_write(&mut rest, &mut wait, context);
            written = self.out.len() - rest.len();
            sent.map(|sent| {
                self.out = Vec::new();
                sent.map_err(End::Client)
            })
        })
    }

    /// Says why, and closes.
    pub async fn close(&mut self, hop: &Hop, end: End) {
        match end {
            End::Done => {}
            End::Client(error) => return debug!("client: {error}"),
            End::NextHop(error) => {
                warn!("next hop: {error}");
                let text = format!("{} lost its mail server, try again later", hop.hostname);
                self.say(421, "4.4.2", &text);
            }
            End::Refuse(reply) => self.tell(reply.raw()),
        }
        self.wire.finish(&mem::take(&mut self.out)).await;
    }

    /// What reading from the client came to: one that is silent, or stays, for too long is told so.
    fn had(&self, read: Result<(), WireError>) -> Result<(), End> {
        match read {
            Ok(()) => Ok(()),
            Err(WireError::TimedOut) => {
                let why = if self.wire.is_over() {
                    "the session has lasted too long"
                } else {
                    "idle for too long"
                };
                Err(End::Refuse(Reply::new(421, "4.4.2", why)))
            }
            Err(error) => Err(End::Client(error)),
        }
    }
}
