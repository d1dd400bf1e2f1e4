//! A listening socket: accepts, bounds the number of sessions, starts one for each client, and drains
//! them when hoptrail stops. Knows nothing of SMTP but the words for "busy".

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::{Instrument, debug, info, info_span, warn};

use super::client::Client;
use super::next_hop::{ClientAddress, NextHopAddr, Protocol};
use super::wire::Wire;
use super::workers::Workers;
use super::{Hop, Site, ingress, transfer};
use crate::smtp::data::BareNewline;
use crate::smtp::reply::Reply;
use crate::track::Role;
use crate::track::policy::Policy;

/// Connections that may wait to be accepted; the system may set a lower limit.
const BACKLOG: u32 = 4096;
/// A pause after an accept that failed (out of descriptors, most likely), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One listening socket and what stands behind it, as configured.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where in the hop it stands.
    pub role: Role,
    /// Its address.
    pub listen: SocketAddr,
    /// What clients speak to it.
    pub protocol: Protocol,
    /// Where its mail goes.
    pub next_hop: NextHopAddr,
    /// How the MTA behind an ingress learns who the client is.
    pub client_address: ClientAddress,
    /// What becomes of a lone CR or LF in a message.
    pub bare_newline: BareNewline,
    /// Who may ask here.
    pub policy: Policy,
}

/// Opens a listening socket that belongs to this worker.
pub fn open(address: SocketAddr, worker: &Handle) -> io::Result<TcpListener> {
    let _here = worker.enter();
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The next client, its socket with the worker that is to serve it.
async fn accept(socket: &TcpListener, worker: &Handle) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        // A socket belongs to the event loop of the runtime in which it is made.
        let _here = worker.enter();
        socket.poll_accept(context)
    })
    .await
}

/// Serves clients of `socket` until the hop is told to stop and its sessions have ended or had their time.
pub async fn serve(socket: TcpListener, hop: Arc<Hop>, listener: Listener, workers: Arc<Workers>) {
    let sessions_max = hop.limits.sessions_max;
    let drain = hop.timeouts.drain();
    let mut stopping = hop.stopping.clone();
    let site = Arc::new(Site {
        hop,
        listener,
        known: Mutex::new(None),
    });
    let places = Arc::new(Semaphore::new(sessions_max));
    let mut number: u64 = 0;
    loop {
        let worker = workers.next();
        let accepted = tokio::select! {
            accepted = accept(&socket, worker) => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(listen = %site.listener.listen, "cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            worker.spawn(turn_away(stream, site.hop.hostname.clone()));
            continue;
        };
        number += 1;
        let span = info_span!("session", role = site.listener.role.as_str(), n = number, client = %address);
        let site = Arc::clone(&site);
        let session = async move {
            session(&site, stream, address).await;
            drop(place);
        };
        worker.spawn(session.instrument(span));
    }
    drop(socket);
    let all = u32::try_from(sessions_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(drain, places.acquire_many(all))
        .await
        .is_err()
    {
        info!(listen = %site.listener.listen, "sessions still open at the deadline are cut");
    }
}

/// One client from the first octet to the last.
async fn session(site: &Site, stream: TcpStream, address: SocketAddr) {
    let prepared = stream
        .local_addr()
        .and_then(|local| Ok((local, Wire::new(stream, site.hop.timeouts.write())?)));
    let (local, wire) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return debug!("client gone at once: {error}"),
    };
    let client = Client::new(wire, address, local);
    match site.listener.role {
        Role::Ingress => ingress::run(site, client).await,
        Role::Egress | Role::Delivery => transfer::run(site, client).await,
    }
}

/// Tells a client over the limit to come back, without a session's resources.
async fn turn_away(mut stream: TcpStream, hostname: String) {
    let busy = Reply::new(
        421,
        "4.3.2",
        &format!("{hostname} too many connections, try again later"),
    );
    // The client may be gone; it has lost nothing.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.write_all(busy.raw())).await;
}
