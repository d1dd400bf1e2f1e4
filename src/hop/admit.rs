//! Who gets a session: the true client behind a balancer, the networks a listener serves, and how many
//! sessions one client may have. Knows nothing of what is said in one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::Site;
use super::networks::counted_as;
use super::proxy::{self, Ends, Source};
use super::tls::ServerMode;
use crate::smtp::reply::Reply;

/// A connection that gets a session.
pub struct Admitted {
    /// The socket, the PROXY header read off it.
    pub stream: TcpStream,
    /// Who the client is.
    pub ends: Ends,
    /// Its place among the sessions of its client; given back when this is dropped.
    pub place: Option<Place>,
}

/// Finds out who has connected, and turns away who is not to have a session.
pub async fn admit(site: &Site, mut stream: TcpStream, address: SocketAddr) -> Option<Admitted> {
    let own = local(site.listener.listen, &stream).map(|local| Ends {
        client: address,
        local,
    });
    let ends = match own {
        // Of anybody but a trusted balancer nothing is read: whoever may name a client may be anybody.
        Ok(own) if site.listener.proxy_from.contains(own.client.ip()) => {
            Box::pin(true_ends(site, &mut stream, own)).await?
        }
        Ok(own) => own,
        Err(error) => {
            debug!("client gone at once: {error}");
            return None;
        }
    };
    let (listener, hostname) = (&site.listener, &site.hop.hostname);
    if !listener.serves(ends.client.ip()) {
        warn!(listen = %listener.listen, client = %ends.client, "refused: not in the listener's clients");
        let text = format!("{hostname} takes no mail from your address");
        // Most likely the hop's own MTA at a new address: its mail is to wait until `clients` names that.
        Box::pin(turn_away(stream, site, Reply::new(421, "4.7.1", &text))).await;
        return None;
    }
    let sessions_max = site.hop.limits.sessions_per_client_max;
    let place = if sessions_max == 0 {
        None
    } else {
        let entered = site
            .hop
            .crowd
            .enter(listener.listen, ends.client.ip(), sessions_max);
        if entered.is_none() {
            info!(listen = %listener.listen, client = %ends.client, "refused: sessions_per_client_max");
            let text = format!("{hostname} has too many connections from your address");
            Box::pin(turn_away(stream, site, Reply::new(421, "4.7.0", &text))).await;
            return None;
        }
        entered
    };
    Some(Admitted {
        stream,
        ends,
        place,
    })
}

/// Where a client connected to. The system is asked only if a listener may be reached at more than one address.
fn local(listen: SocketAddr, stream: &TcpStream) -> io::Result<SocketAddr> {
    match listen {
        SocketAddr::V4(one) if !one.ip().is_unspecified() && one.port() != 0 => Ok(listen),
        _ => stream.local_addr(),
    }
}

/// The ends of the connection as a trusted balancer tells them; such a one has to.
async fn true_ends(site: &Site, stream: &mut TcpStream, own: Ends) -> Option<Ends> {
    let header = timeout(site.hop.timeouts.proxy_header(), proxy::receive(stream)).await;
    match header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(Source::Relayed(ends)) => Some(ends),
        Ok(Source::Itself) => Some(own),
        Err(error) => {
            warn!(listen = %site.listener.listen, balancer = %own.client, "no use of the PROXY header: {error}");
            None
        }
    }
}

/// Tells a client why it gets no session, without a session's resources.
pub async fn turn_away(mut stream: TcpStream, site: &Site, why: Reply) {
    let tls = site.listener.tls.as_ref();
    if tls.is_some_and(|tls| tls.mode == ServerMode::Implicit) {
        // Plaintext would mean nothing to it, and a handshake is what it does not get.
        return;
    }
    // The client may be gone; it has lost nothing.
    let _ = timeout(Duration::from_secs(5), stream.write_all(why.raw())).await;
}

/// The sessions of each client at each listener, where they are limited.
#[derive(Clone, Default)]
pub struct Crowd(Arc<Mutex<HashMap<Key, usize>>>);

/// A listener, and a client's address as it is counted.
type Key = (SocketAddr, IpAddr);

/// One session in the crowd; over when this is dropped.
pub struct Place {
    of: Crowd,
    key: Key,
}

impl Crowd {
    fn enter(&self, listen: SocketAddr, client: IpAddr, sessions_max: usize) -> Option<Place> {
        let key = (listen, counted_as(client));
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sessions.entry(key).or_default();
        (*count < sessions_max).then(|| {
            *count += 1;
            Place {
                of: self.clone(),
                key,
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sessions = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = sessions.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn clients_are_counted_by_address_network_and_listener() {
        let crowd = Crowd::default();
        let (here, there) = (
            "192.0.2.1:25".parse().unwrap(),
            "192.0.2.1:26".parse().unwrap(),
        );
        let enter = |listen, client: &str| crowd.enter(listen, client.parse().unwrap(), 2);
        let first = enter(here, "2001:db8:0:1::1");
        let second = enter(here, "2001:db8:0:1:ffff::2");
        assert!(first.is_some() && second.is_some());
        assert!(enter(here, "2001:db8:0:1::3").is_none());
        assert!(enter(here, "2001:db8:0:2::1").is_some());
        assert!(enter(there, "2001:db8:0:1::3").is_some());
        drop(first);
        assert!(enter(here, "2001:db8:0:1::3").is_some());
        let mapped = (
            enter(here, "::ffff:198.51.100.7"),
            enter(here, "198.51.100.7"),
        );
        assert!(enter(here, "198.51.100.7").is_none());
        assert!(enter(here, "198.51.100.8").is_some());
        drop((second, mapped));
        assert!(crowd.0.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
