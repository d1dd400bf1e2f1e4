//! An ingress, `mx1.test`, in front of a scripted MTA, and where its reports land.

use std::net::SocketAddrV4;

use tempfile::TempDir;

use super::dialogue::Dialogue;
use super::hoptrail::Hoptrail;
use super::mail::{Mail, Report};
use super::net;
use super::sink::{Script, Sink};

/// It, running.
pub struct Ingress {
    pub hoptrail: Hoptrail,
    pub mta: Sink,
    pub entrance: SocketAddrV4,
    pub reports: TempDir,
}

impl Ingress {
    /// As it is without further configuration.
    pub fn before(mta: Script) -> Self {
        Self::with(mta, "", "")
    }

    /// With more lines for the top of its configuration, and for the listener.
    pub fn with(mta: Script, top: &str, listener: &str) -> Self {
        Self::served(mta, top, listener, Hoptrail::serve)
    }

    /// The same, started by `serve`.
    pub fn served(
        mta: Script,
        top: &str,
        listener: &str,
        serve: impl FnOnce(&str) -> Hoptrail,
    ) -> Self {
        let mta = mta.start();
        let reports = tempfile::tempdir().expect("a temporary directory");
        let entrance = net::address();
        let hoptrail = serve(&format!(
            "hostname = 'mx1.test'\n{top}\n\
             [reports]\nfrom = 'hoptrail@mx1.test'\nvia = 'maildir:{}'\n\
             [[listener]]\nrole = 'ingress'\nlisten = '{entrance}'\nprotocol = 'smtp'\n\
             next_hop = '{}'\n{listener}\n",
            reports.path().display(),
            mta.next_hop(),
        ));
        Self {
            hoptrail,
            mta,
            entrance,
            reports,
        }
    }

    /// A client that has been greeted.
    pub fn client(&self) -> Dialogue {
        Dialogue::open(self.entrance)
    }

    /// Waits until so much was mailed, and gives it; more than that is a failure.
    pub fn wait_for_mails(&self, count: usize) -> Vec<Mail> {
        Mail::wait_in_maildir(self.reports.path(), count)
    }

    /// The same for reports alone.
    pub fn reports(&self, count: usize) -> Vec<Report> {
        let mails = self.wait_for_mails(count);
        let report = |mail: &Mail| mail.report().expect("a report");
        mails.iter().map(report).collect()
    }
}
