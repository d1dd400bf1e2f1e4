//! A Postfix with hoptrail around it, in front of the four MTAs as they are without: mail for each domain of [`DOMAINS`]
//! goes by another of them, to a sink behind it.

use std::net::SocketAddrV4;

use tempfile::TempDir;

use super::hoptrail::Hoptrail;
use super::mta::{self, Mta, start_all};
use super::net::{self, NextHop};
use super::sink::{Script, Sink};

/// What goes by Postfix, Exim, `OpenSMTPD` and Sendmail.
pub const DOMAINS: [&str; 4] = ["p.test", "e.test", "o.test", "s.test"];

/// All of them, running.
pub struct Fan {
    pub entrance: SocketAddrV4,
    /// Behind the MTAs, in the order of the domains.
    pub sinks: [Sink; 4],
    pub reports: TempDir,
    _hoptrail: Hoptrail,
    _mta: Mta,
    _bare: [Mta; 4],
}

impl Fan {
    /// Behind each of the four stands such a sink.
    pub fn before(sink: &Script) -> Self {
        let sinks = DOMAINS.map(|_| sink.clone().start());
        let mut behind = sinks.iter().map(Sink::next_hop);
        let bare = mta::all().map(|setup| setup.next_hop(behind.next().expect("a sink each")));
        let bare = start_all(bare);
        let routes = DOMAINS.iter().zip(&bare);
        let routes: Vec<_> = routes
            .map(|(domain, mta)| format!("\"{domain}\" = \"smtp://{}\"", mta.address()))
            .collect();
        let (entrance, exit) = (net::address(), net::address());
        let mta = Mta::postfix("mx1.test")
            .next_hop(NextHop::Lmtp(exit))
            .start();
        let reports = tempfile::tempdir().expect("a temporary directory");
        let hoptrail = Hoptrail::serve(&format!(
            "hostname = 'hop.test'\n\
             [reports]\nfrom = 'hoptrail@hop.test'\nvia = 'maildir:{}'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\nnext_hop = 'smtp://{}'\n\
             [[listener]]\nrole = 'egress'\nlisten = '{exit}'\nprotocol = 'lmtp'\nnext_hop = 'mx'\nroutes = {{ {} }}\n",
            reports.path().display(),
            mta.address(),
            routes.join(", "),
        ));
        Self {
            entrance,
            sinks,
            reports,
            _hoptrail: hoptrail,
            _mta: mta,
            _bare: bare,
        }
    }
}
