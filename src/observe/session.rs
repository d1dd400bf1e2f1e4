//! Whose session a line of the log belongs to. A session says once who it is; nothing more is done for it
//! until something is logged, which with mail that asks for nothing is never.

use std::fmt;
use std::net::SocketAddr;

use tokio::task::futures::TaskLocalFuture;

tokio::task_local! {
    static CURRENT: Session;
}

/// A session, as the log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The listener's role.
    pub role: &'static str,
    /// Its number on that listener, since the start.
    pub number: u64,
    /// The client.
    pub client: SocketAddr,
}

impl Session {
    /// Runs `work` as this session.
    pub fn of<W: Future>(self, work: W) -> TaskLocalFuture<Self, W> {
        CURRENT.scope(self, work)
    }

    /// The session in which this is asked, if it is one.
    pub fn current() -> Option<Self> {
        CURRENT.try_get().ok()
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.role, self.number, self.client)
    }
}
