//! Whether the domain of a reverse-path permits the client's address (SPF, RFC 7208).

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{MessageAuthenticator, SpfResult};
use tracing::debug;

use crate::hop::route::Names;

/// Who sends, as SPF sees it.
pub struct Sender {
    /// The true client.
    pub client: IpAddr,
    /// What it said in EHLO.
    pub helo: String,
    /// This hop, for the macros.
    pub host: String,
    /// The mailbox of MAIL FROM.
    pub reverse_path: String,
}

impl Sender {
    /// Whether the answer is a pass. Softfail, neutral, no record and every error are none; and whoever says the
    /// EHLO of a domain that disowns it is not believed (RFC 7208, 2.3).
    pub async fn is_permitted(&self, names: &Names) -> bool {
        let Some((_, domain)) = self.reverse_path.rsplit_once('@') else {
            return false;
        };
        let Ok(resolver) = names.resolver() else {
            return false;
        };
        let name_servers = MessageAuthenticator(resolver.clone());
        let asked = SpfParameters::verify(self.client, &self.helo, &self.host, &self.reverse_path);
        let result = name_servers.verify_spf(asked).await.result();
        debug!(client = %self.client, domain, %result, "SPF");
        result == SpfResult::Pass && records(resolver, domain).await == 1
    }
}

/// How many SPF records a domain has. More than one is an error (RFC 7208, 4.5), which mail-auth does not see.
async fn records(resolver: &TokioResolver, domain: &str) -> usize {
    let is_record = |text: &[u8]| {
        let version = text.split(|b| *b == b' ').next().unwrap_or_default();
        version.eq_ignore_ascii_case(b"v=spf1")
    };
    match resolver.txt_lookup(format!("{domain}.")).await {
        Ok(found) => {
            let texts = found
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::TXT(text) => Some(text.txt_data.concat()),
                    _ => None,
                });
            texts.filter(|text| is_record(text)).count()
        }
        Err(_) => 0,
    }
}
