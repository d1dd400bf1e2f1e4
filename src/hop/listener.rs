//! A listening socket: accepts, bounds the number of sessions, starts one for each client, and drains
//! them when hoptrail stops. Knows nothing of SMTP but the words for "busy".

use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::admit::{Admitted, Place, admit, turn_away};
use super::client::Client;
use super::introduce::ClientAddress;
use super::networks::Networks;
use super::next_hop::Protocol;
use super::proxy::Ends;
use super::route::Routes;
use super::tls::{NextHopTls, ServerMode, ServerTls};
use super::trouble::Trouble;
use super::wire::Wire;
use super::workers::Workers;
use super::{Site, ingress, transfer};
use crate::observe::session::Session;
use crate::smtp::data::BareNewline;
use crate::smtp::reply::Reply;
use crate::track::Role;
use crate::track::policy::Policy;
use crate::track::wish::Wishes;

/// Connections that may wait to be accepted; the system may set a lower limit.
const BACKLOG: u32 = 4096;
/// A pause after an accept that failed (out of descriptors, most likely), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// More sessions than any limit allows: each holds one, so that the open ones can be counted and waited for.
const PLACES: u32 = u32::MAX >> 4;

/// One listening socket and what stands behind it, as configured.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where in the hop it stands.
    pub role: Role,
    /// Its address.
    pub listen: SocketAddr,
    /// Balancers, which begin with a PROXY header.
    pub proxy_from: Networks,
    /// The clients of this ingress are the MTA's content filter, which hands back what the hop has already.
    pub content_filter: bool,
    /// Whom any other than the ingress for all the world serves.
    pub clients: Networks,
    /// What clients speak to it.
    pub protocol: Protocol,
    /// TLS with its clients.
    pub tls: Option<ServerTls>,
    /// Where its mail goes.
    pub routes: Routes,
    /// TLS on the way there.
    pub next_hop_tls: NextHopTls,
    /// How the MTA behind an ingress learns who the client is.
    pub client_address: ClientAddress,
    /// What becomes of a lone CR or LF in a message.
    pub bare_newline: BareNewline,
    /// EHLO keywords beyond those hoptrail understands that an ingress shows as well, each with the verb of
    /// its name, if it has one: commands of one line and one reply.
    pub safe_keywords: Vec<String>,
    /// Who may ask here.
    pub policy: Policy,
    /// What an ingress takes for a request besides TRACK, from clients that may ask.
    pub wishes: Wishes,
}

impl Listener {
    /// Whether a client of this address is served; by an ingress, that is the MTA's to say.
    pub fn serves(&self, client: IpAddr) -> bool {
        let open = self.role == Role::Ingress && !self.content_filter;
        open || self.clients.contains(client)
    }
}

/// Opens a listening socket that belongs to this worker.
pub fn open(address: SocketAddr, worker: &Handle) -> io::Result<TcpListener> {
    let _here = worker.enter();
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    // For the sockets of its clients, which have it from this one.
    socket.set_nodelay(true)?;
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

/// Lets all go first whose turn it is.
async fn step_back() {
    let mut stepped = false;
    poll_fn(|context| {
        if mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Serves clients of `socket` until the hop is told to stop and its sessions have ended or had their time. A
/// session keeps the `site` it began with; the next one gets the newest. When there will be no newer one the
/// listener is taken away: the socket closes and its sessions go on.
pub async fn serve(
    socket: TcpListener,
    mut site: watch::Receiver<Arc<Site>>,
    workers: Arc<Workers>,
) {
    let mut stopping = site.borrow().hop.stopping.clone();
    let places = Arc::new(Semaphore::new(PLACES as usize));
    let mut number: u64 = 0;
    let (mut failures, mut refusals) = (Trouble::default(), Trouble::default());
    loop {
        let worker = workers.next();
        let accepted = tokio::select! {
            accepted = accept(&socket, worker) => accepted,
            changed = site.changed() => match changed {
                Ok(()) => continue,
                Err(_) => break,
            },
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let site = Arc::clone(&site.borrow());
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let listen = site.listener.listen;
                failures.count(|failures| warn!(%listen, failures, "cannot accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let open = PLACES as usize - places.available_permits();
        let place = Arc::clone(&places).try_acquire_owned();
        let (true, Ok(place)) = (open < site.hop.limits.sessions_max, place) else {
            let listen = site.listener.listen;
            refusals.count(|clients| warn!(%listen, clients, "refused: sessions_max"));
            worker.spawn(async move { turn_away(stream, &site, busy(&site)).await });
            continue;
        };
        number += 1;
        let came = Box::new(Came {
            number,
            stream,
            address,
            place,
        });
        worker.spawn(serve_one(site, came));
        // The next client most likely is not there yet; the MTA of this one can be called.
        step_back().await;
    }
    drop(socket);
    let site = Arc::clone(&site.borrow());
    drain(&site, &places, stopping).await;
}

/// Waits for the sessions of a closed listener: as long as they take, but once hoptrail stops no longer
/// than configured.
async fn drain(site: &Site, places: &Semaphore, mut stopping: watch::Receiver<bool>) {
    let ended = places.acquire_many(PLACES);
    tokio::pin!(ended);
    tokio::select! {
        _ = &mut ended => return,
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    let limit = site.hop.timeouts.drain();
    if tokio::time::timeout(limit, ended).await.is_err() {
        info!(listen = %site.listener.listen, "sessions still open at the deadline are cut");
    }
}

/// A connection that was accepted. Boxed on its way, as a session holds on to all that it was begun with.
struct Came {
    number: u64,
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
}

/// What a session is counted by, until this is dropped.
struct Places {
    _listener: OwnedSemaphorePermit,
    _client: Option<Box<Place>>,
}

/// One client, if it is to have a session.
async fn serve_one(site: Arc<Site>, came: Box<Came>) {
    let Some((who, mut client, _places)) = Box::pin(begin(&site, came)).await else {
        return;
    };
    match site.listener.role {
        Role::Ingress => who.of(ingress::run(&site, &mut client)).await,
        Role::Egress | Role::Delivery => {
            let session = who.of(transfer::run(&site, &mut client));
            Box::pin(session).await;
        }
    }
}

/// What there is to do before the first word.
async fn begin(site: &Site, came: Box<Came>) -> Option<(Session, Client, Places)> {
    let Admitted {
        stream,
        ends,
        place,
    } = admit(site, came.stream, came.address).await?;
    let who = Session {
        role: site.listener.role.as_str(),
        number: came.number,
        client: ends.client,
    };
    let places = Places {
        _listener: came.place,
        _client: place.map(Box::new),
    };
    let mut client = client(site, stream, ends);
    let secured = who.of(secure(site, &mut client)).await;
    secured.then_some((who, client, places))
}

fn client(site: &Site, stream: TcpStream, ends: Ends) -> Client {
    let timeouts = &site.hop.timeouts;
    let mut wire = Wire::new(stream, timeouts.write());
    wire.end_reads_at(Instant::now() + timeouts.session());
    Client::new(wire, ends)
}

/// TLS before anything else, where the listener wants it; whether the session can go on.
async fn secure(site: &Site, client: &mut Client) -> bool {
    let Some(tls) = implicit(&site.listener) else {
        return true;
    };
    let done = client.implicit_tls(site, tls).await;
    done.inspect_err(|error| debug!("no TLS with the client: {error}"))
        .is_ok()
}

fn implicit(listener: &Listener) -> Option<&ServerTls> {
    let tls = listener.tls.as_ref()?;
    (tls.mode == ServerMode::Implicit).then_some(tls)
}

/// What a client is told that comes when there is no room.
fn busy(site: &Site) -> Reply {
    let text = format!(
        "{} too many connections, try again later",
        site.hop.hostname
    );
    Reply::new(421, "4.3.2", &text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn the_sockets_of_clients_delay_nothing() {
        let worker = Handle::current();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = open(address.parse().unwrap(), &worker).unwrap();
            let client = TcpStream::connect(socket.local_addr().unwrap());
            let (accepted, _client) = tokio::join!(accept(&socket, &worker), client);
            assert!(accepted.unwrap().0.nodelay().unwrap(), "{address}");
        }
    }

    /// A hop has thousands of sessions, and nearly all of them wait. With what the runtime adds this is the most that
    /// fits into 768 octets.
    #[test]
    fn a_session_is_small() {
        fn octets<F>(_: impl FnOnce(Arc<Site>, Box<Came>) -> F) -> usize {
            size_of::<F>()
        }
        let octets = octets(serve_one);
        assert!(octets <= 664, "{octets}");
    }
}
