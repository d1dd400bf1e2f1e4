//! TLS on the two legs of a session: what a listener shows its clients, and what is asked of a next hop.
//! Made once for each reading of the configuration; never uses the process-wide provider of rustls.
//! Knows no SMTP: when a handshake begins is the dialogues' business.
//!
//! Three levels towards a next hop: `opportunistic` encrypts with whoever answers and so helps against
//! listeners only; `required` and `implicit` verify the name and the chain, and never go on without.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, CommonState, DigitallySignedStruct, ProtocolVersion, RootCertStore,
    ServerConfig, SignatureScheme,
};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tracing::debug;

use super::trouble::Trouble;
use super::wire::{Wire, WireError};
use crate::track::Security;

/// When TLS with a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerMode {
    /// When the client says STARTTLS (RFC 3207).
    Starttls,
    /// With the first octet (RFC 8314, 3).
    Implicit,
}

/// TLS with the clients of a listener.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// When it begins.
    pub mode: ServerMode,
    /// AUTH is let through before the handshake, too.
    pub auth_in_clear: bool,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Fails if the key does not belong to the chain's first certificate, or one of them cannot be used.
    pub fn new(
        mode: ServerMode,
        auth_in_clear: bool,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Self {
            mode,
            auth_in_clear,
            config: Arc::new(config),
        })
    }

    /// The handshake with a client, which may take as long as `limit`.
    pub(super) async fn accept(&self, wire: &mut Wire, limit: Duration) -> Result<(), WireError> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let handshake = |stream| async move {
            let stream = TlsStream::from(acceptor.accept(stream).await?);
            // No client is asked for a certificate.
            let security = established("client", stream.get_ref().1, false);
            Ok((stream, security))
        };
        secure(wire, handshake, limit).await
    }
}

/// How much TLS a next hop has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMode {
    /// STARTTLS where it is offered, with any certificate; plaintext otherwise.
    Opportunistic,
    /// STARTTLS and a certificate that is good for the name.
    Required,
    /// TLS from the first octet and a certificate that is good for the name.
    Implicit,
}

/// TLS with a next hop.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// What begins it, and what is a failure.
    pub mode: ClientMode,
    /// Whose certificate it must be; the next hop's host if nothing is set.
    name: Option<ServerName<'static>>,
    config: Arc<ClientConfig>,
    /// Next hops that it was not to be had with, though they offered it.
    missed: Arc<Mutex<Trouble>>,
}

/// TLS towards the next hops of a listener.
#[derive(Clone, Debug)]
pub enum NextHopTls {
    /// The same for every one, or none.
    Set(Option<ClientTls>),
    /// Nothing is said of it: this, but none on this host itself, where nobody can listen who could not do
    /// worse.
    Usual(ClientTls),
}

impl NextHopTls {
    /// What is done with this host.
    pub fn towards(&self, host: &str) -> Option<&ClientTls> {
        let here = host.parse::<std::net::IpAddr>().map_or_else(
            |_| host.eq_ignore_ascii_case("localhost"),
            |ip| ip.to_canonical().is_loopback(),
        );
        match self {
            Self::Set(tls) => tls.as_ref(),
            Self::Usual(tls) => Some(tls).filter(|_| !here),
        }
    }
}

impl ClientTls {
    /// TLS where the next hop offers it. Nothing is verified: an attacker who can answer in its place
    /// could as well leave STARTTLS out of the offer.
    pub fn opportunistic() -> Result<Self, rustls::Error> {
        let provider = provider();
        let verifier = Anyone(provider.signature_verification_algorithms);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self {
            mode: ClientMode::Opportunistic,
            name: None,
            config: Arc::new(config),
            missed: Arc::default(),
        })
    }

    /// TLS or nothing, with a certificate from one of `roots` for `name` or else the next hop's host.
    pub fn verified(
        mode: ClientMode,
        name: Option<ServerName<'static>>,
        roots: RootCertStore,
    ) -> Result<Self, rustls::Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            mode,
            name,
            config: Arc::new(config),
            missed: Arc::default(),
        })
    }

    /// A next hop that offered it is spoken to without; `tell` is called now and then, with how many there were.
    pub(super) fn missed(&self, tell: impl FnOnce(u32)) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.count(tell);
    }

    /// The handshake with the next hop at `host`, which may take as long as `limit`.
    pub(super) async fn connect(
        &self,
        wire: &mut Wire,
        host: &str,
        limit: Duration,
    ) -> Result<(), WireError> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let verified = self.mode != ClientMode::Opportunistic;
        let handshake = |stream| async move {
            let stream = TlsStream::from(connector.connect(name, stream).await?);
            let security = established("next hop", stream.get_ref().1, verified);
            Ok((stream, security))
        };
        secure(wire, handshake, limit).await
    }
}

/// Boxed, because a session that sees no handshake should not carry the room for one.
async fn secure<F: Future<Output = io::Result<(TlsStream<TcpStream>, Security)>>>(
    wire: &mut Wire,
    handshake: impl FnOnce(TcpStream) -> F,
    limit: Duration,
) -> Result<(), WireError> {
    Box::pin(wire.secure(handshake, limit)).await
}

/// What a handshake came to, and says it; the one place that knows.
fn established(with: &str, state: &CommonState, verified: bool) -> Security {
    let version = match state.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "unknown",
    };
    let suite = state.negotiated_cipher_suite().map(|suite| suite.suite());
    let cipher = match suite {
        // rustls has names of its own for these.
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.and_then(|s| s.as_str()).unwrap_or("unknown"),
    };
    debug!(with, version, cipher, verified, "TLS");
    Security::Tls {
        version: version.into(),
        cipher: cipher.into(),
        verified,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates in a PEM file, at least one; the error says what is wrong with the file.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error| format!("{}: {}", path.display(), words(error));
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(wrong)?;
    if found.is_empty() {
        return Err(format!("{}: no PEM certificate in it", path.display()));
    }
    Ok(found)
}

/// The first private key in a PEM file (PKCS #8, PKCS #1 or SEC 1).
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| format!("{}: {}", path.display(), words(error)))
}

fn words(error: rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("{error}; the user that hoptrail runs as has to be able to read it")
        }
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "no PEM private key in it".to_owned(),
        error => format!("no PEM file: {error}"),
    }
}

/// Whom to believe: the certificates in `ca`, or those the system believes.
pub fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in read_certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        return Ok(roots);
    }
    // Some that cannot be read are no reason to refuse the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no CA certificates; name a file".to_owned());
    }
    Ok(roots)
}

/// Takes any certificate, and checks only that the peer holds its key.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
