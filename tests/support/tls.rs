//! TLS for the raw ends of a dialogue, and certificates made on the spot. rustls itself, blocking: what the
//! tests use of it shares no code with hoptrail's.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// Both ways of a connection, in plaintext or not.
pub trait Duplex: Read + Write + Send {
    /// Says that no more will come, as TLS does; nothing in plaintext.
    fn close_notify(&mut self) {}
}

impl Duplex for TcpStream {}

impl Duplex for rustls::StreamOwned<ServerConnection, TcpStream> {
    fn close_notify(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("the peer reads");
    }
}

impl Duplex for rustls::StreamOwned<ClientConnection, TcpStream> {
    fn close_notify(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("the peer reads");
    }
}

/// A CA of the test's own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

/// What a server needs for its side of a handshake.
#[derive(Clone)]
pub struct Server(Arc<ServerConfig>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the test's own CA");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self { issuer }
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for this host name or address.
    pub fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The client's side of a handshake; the server's certificate has to be ours, and for `name`.
    pub fn connect(&self, socket: TcpStream, name: &str) -> impl Duplex + use<> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a CA");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = rustls::StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream
                .conn
                .complete_io(&mut stream.sock)
                .expect("a handshake");
        }
        stream
    }
}

impl Identity {
    /// Puts both into files there: the certificate's, then the key's.
    pub fn write(&self, directory: &Path, name: &str) -> [PathBuf; 2] {
        [(".pem", &self.cert), (".key", &self.key)].map(|(end, text)| {
            let path = directory.join(format!("{name}{end}"));
            std::fs::write(&path, text).expect("a file can be written");
            path
        })
    }

    /// For a server.
    pub fn server(&self) -> Server {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("a certificate and its key");
        Server(Arc::new(config))
    }
}

impl Server {
    /// The server's side of a handshake.
    pub fn accept(&self, socket: TcpStream) -> std::io::Result<impl Duplex + use<>> {
        let server = ServerConnection::new(Arc::clone(&self.0)).expect("a server");
        let mut stream = rustls::StreamOwned::new(server, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}
