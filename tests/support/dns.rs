//! A name server for a test's own names: MX, A and TXT records out of a table, failures and silence where the test
//! wants them, and no such name for the rest.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::net;

const TYPE_A: u16 = 1;
const TYPE_MX: u16 = 15;
const TYPE_TXT: u16 = 16;

/// RFC 1035, 4.1.1.
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

/// What is known of a name.
#[derive(Clone, Default)]
struct Records {
    mx: Vec<(u16, String)>,
    a: Vec<Ipv4Addr>,
    txt: Vec<String>,
    manner: Manner,
}

/// How a question about a name is answered.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Manner {
    #[default]
    Well,
    Failing,
    Silent,
}

/// A name server to be started.
#[derive(Default)]
pub struct Zone {
    names: HashMap<String, Records>,
}

/// A running name server. Dropped, it is gone.
pub struct Dns {
    address: SocketAddrV4,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Zone {
    /// Adds an MX record.
    pub fn mx(mut self, domain: &str, preference: u16, host: &str) -> Self {
        self.names
            .entry(domain.to_owned())
            .or_default()
            .mx
            .push((preference, host.to_owned()));
        self
    }

    /// Adds an address.
    pub fn a(mut self, host: &str, address: Ipv4Addr) -> Self {
        self.names
            .entry(host.to_owned())
            .or_default()
            .a
            .push(address);
        self
    }

    /// Adds a text, in as many strings as it needs.
    pub fn txt(mut self, name: &str, text: &str) -> Self {
        self.names
            .entry(name.to_owned())
            .or_default()
            .txt
            .push(text.to_owned());
        self
    }

    /// Questions about this name end in a failure of the server.
    pub fn failing(mut self, name: &str) -> Self {
        self.names.entry(name.to_owned()).or_default().manner = Manner::Failing;
        self
    }

    /// Questions about this name are not answered.
    pub fn silent(mut self, name: &str) -> Self {
        self.names.entry(name.to_owned()).or_default().manner = Manner::Silent;
        self
    }

    /// Starts the server.
    pub fn start(self) -> Dns {
        let address = net::address();
        let socket = UdpSocket::bind(address).expect("a port for the name server");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a time limit");
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = thread::spawn({
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            move || {
                let mut query = [0; 512];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, from)) = socket.recv_from(&mut query) else {
                        continue;
                    };
                    let (name, _) = question_name(&query[..len]);
                    lock(&asked).push(name);
                    if let Some(reply) = answer(&self.names, &query[..len]) {
                        let _ = socket.send_to(&reply, from);
                    }
                }
            }
        });
        Dns {
            address,
            asked,
            stop,
            server: Some(server),
        }
    }
}

impl Dns {
    /// Where it answers.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// How often this name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        lock(&self.asked).iter().filter(|n| *n == name).count()
    }
}

fn lock(asked: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.server.take().map(JoinHandle::join);
    }
}

/// The reply to a query of one question (RFC 1035, 4), if it gets one.
fn answer(names: &HashMap<String, Records>, query: &[u8]) -> Option<Vec<u8>> {
    let (name, end) = question_name(query);
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let question = &query[12..end + 4];
    let records: Vec<Vec<u8>> = match (names.get(&name), kind) {
        (Some(known), TYPE_A) => known.a.iter().map(|a| a.octets().to_vec()).collect(),
        (Some(known), TYPE_MX) => known
            .mx
            .iter()
            .map(|(preference, host)| [preference.to_be_bytes().to_vec(), encoded(host)].concat())
            .collect(),
        (Some(known), TYPE_TXT) => known.txt.iter().map(|text| strings(text)).collect(),
        _ => Vec::new(),
    };
    let code = match names.get(&name).map(|known| known.manner) {
        Some(Manner::Well) => 0,
        Some(Manner::Failing) => SERVER_FAILURE,
        Some(Manner::Silent) => return None,
        None => NO_SUCH_NAME,
    };
    let count = u16::try_from(records.len())
        .expect("few records")
        .to_be_bytes();
    let mut reply = query[..2].to_vec();
    reply.extend([0x85, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    reply.extend(question);
    for data in records {
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).expect("short data").to_be_bytes());
        reply.extend(data);
    }
    Some(reply)
}

/// The character strings of a text (RFC 1035, 3.3.14).
fn strings(text: &str) -> Vec<u8> {
    let mut data = Vec::new();
    for string in text.as_bytes().chunks(255) {
        data.push(u8::try_from(string.len()).expect("a short string"));
        data.extend(string);
    }
    data
}

fn question_name(query: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let len = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + len]).to_ascii_lowercase());
        at += len + 1;
    }
    (labels.join("."), at + 1)
}

fn encoded(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a short label"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}
