//! The `tls` and `next_hop_tls` tables of a listener: the only keys whose files are read with the
//! configuration, so that a certificate of no use is a mistake in it, and the same at a reload.

use std::ops::Range;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use serde::Deserialize;
use toml::Spanned;

use super::Wrong;
use crate::hop::tls::{
    ClientMode, ClientTls, ServerMode, ServerTls, read_certificates, read_key, roots,
};

/// What a listener shows its clients.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawServerTls {
    mode: ServerMode,
    #[serde(default)]
    auth_in_clear: bool,
    cert: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
}

impl RawServerTls {
    /// Reads the files.
    pub fn check(self) -> Result<ServerTls, Wrong> {
        let wrong = |key: &str, span: Range<usize>| {
            let key = key.to_owned();
            move |why: String| (span.start, format!("tls.{key}: {why}"))
        };
        let (cert, key) = (
            wrong("cert", self.cert.span()),
            wrong("key", self.key.span()),
        );
        let chain = read_certificates(self.cert.get_ref()).map_err(&cert)?;
        let private = read_key(self.key.get_ref()).map_err(&key)?;
        let path = |path: &Spanned<PathBuf>| path.get_ref().display().to_string();
        ServerTls::new(self.mode, self.auth_in_clear, chain, private).map_err(|error| match error {
            rustls::Error::InvalidCertificate(_) => cert(format!("{}: {error}", path(&self.cert))),
            rustls::Error::InconsistentKeys(_) => key(format!(
                "{}: not the key of the certificate in {}",
                path(&self.key),
                path(&self.cert)
            )),
            error => key(format!("{}: {error}", path(&self.key))),
        })
    }
}

/// What a next hop has to offer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNextHopTls {
    mode: RawMode,
    ca: Option<Spanned<PathBuf>>,
    name: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawMode {
    None,
    Opportunistic,
    Required,
    Implicit,
}

/// TLS where the next hop offers it.
pub fn opportunistic(offset: usize) -> Result<ClientTls, Wrong> {
    ClientTls::opportunistic().map_err(|error| (offset, format!("next_hop_tls: {error}")))
}

impl RawNextHopTls {
    /// Reads the CA file or the system's. `span` is where the table stands in the file.
    pub fn check(self, span: Range<usize>) -> Result<Option<ClientTls>, Wrong> {
        let mode = match self.mode {
            RawMode::Required => ClientMode::Required,
            RawMode::Implicit => ClientMode::Implicit,
            RawMode::None | RawMode::Opportunistic => {
                self.nothing_to_verify()?;
                return match self.mode {
                    RawMode::None => Ok(None),
                    _ => opportunistic(span.start).map(Some),
                };
            }
        };
        let start = self.ca.as_ref().map_or(span.start, |ca| ca.span().start);
        let name = self.name.map(server_name).transpose()?;
        let wrong = |why: String| (start, format!("next_hop_tls.ca: {why}"));
        let ca = self.ca.as_ref().map(|ca| ca.get_ref().as_path());
        let roots = roots(ca).map_err(wrong)?;
        let tls = ClientTls::verified(mode, name, roots).map_err(|e| wrong(e.to_string()))?;
        Ok(Some(tls))
    }

    fn nothing_to_verify(&self) -> Result<(), Wrong> {
        let ca = self.ca.as_ref().map(|ca| (ca.span(), "ca"));
        let name = self.name.as_ref().map(|name| (name.span(), "name"));
        ca.or(name).map_or(Ok(()), |(span, key)| {
            Err((
                span.start,
                format!("next_hop_tls.{key}: only \"required\" and \"implicit\" verify anything"),
            ))
        })
    }
}

fn server_name(name: Spanned<String>) -> Result<ServerName<'static>, Wrong> {
    let start = name.span().start;
    let name = name.into_inner();
    ServerName::try_from(name.clone()).map_err(|_| {
        (
            start,
            format!("next_hop_tls.name: {name:?} is no host name"),
        )
    })
}
