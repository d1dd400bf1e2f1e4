//! A toy MTA for the demo: takes mail by SMTP, answers 250 with a queue id, puts a Received line on top
//! and, after a while, relays by LMTP, again and again until every recipient is served. In memory; and a toy mail store
//! that makes one recipient wait. No MTA to be used for mail.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How long a recipient that was told to wait does so.
const RETRY_AFTER: Duration = Duration::from_millis(1200);

/// What tells a toy MTA from another.
#[derive(Clone, Copy)]
pub struct Mta {
    /// Its name.
    pub name: &'static str,
    /// How long it keeps a mail before it first passes it on.
    pub dwell: Duration,
    /// Its first queue id.
    pub first_id: u32,
}

/// One mail in the toy's hands.
#[derive(Default)]
struct Mail {
    from: String,
    recipients: Vec<String>,
    text: Vec<u8>,
}

/// Serves SMTP on `socket` and relays what comes to the LMTP server at `next_hop`.
pub async fn relay(socket: TcpListener, mta: Mta, next_hop: SocketAddr) {
    let name = mta.name;
    let queued = Arc::new(AtomicU32::new(mta.first_id));
    while let Ok((stream, _)) = socket.accept().await {
        let queued = Arc::clone(&queued);
        tokio::spawn(async move {
            let accept = |mail: Mail| {
                let id = format!("{:06X}", queued.fetch_add(1, Ordering::Relaxed));
                let received = format!("Received: by {name} (a toy MTA) id {id}\r\n");
                let mail = Mail {
                    text: [received.into_bytes(), mail.text].concat(),
                    ..mail
                };
                let reply = format!("250 2.0.0 Ok: queued as {id}\r\n");
                tokio::spawn(deliver(mail, mta, next_hop));
                vec![reply]
            };
            // A client that breaks off has lost nothing but this demo.
            let _ = serve(stream, name, accept).await;
        });
    }
}

/// Serves LMTP on `socket`: takes every mail and forgets it, but lets `slow` wait once.
pub async fn store(socket: TcpListener, name: &'static str, slow: &'static str) {
    let waited = Arc::new(AtomicBool::new(false));
    while let Ok((stream, _)) = socket.accept().await {
        let waited = Arc::clone(&waited);
        tokio::spawn(async move {
            let accept = |mail: Mail| {
                let reply = |rcpt: &String| {
                    if rcpt == slow && !waited.swap(true, Ordering::Relaxed) {
                        format!("452 4.2.2 <{rcpt}> mailbox is being tidied, come back\r\n")
                    } else {
                        format!("250 2.0.0 <{rcpt}> k3Xw9aTq Saved\r\n")
                    }
                };
                mail.recipients.iter().map(reply).collect()
            };
            let _ = serve(stream, name, accept).await;
        });
    }
}

/// One session. `accept` is given each mail and returns the replies after the dot.
async fn serve(
    mut stream: TcpStream,
    name: &str,
    accept: impl Fn(Mail) -> Vec<String>,
) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read);
    write
        .write_all(format!("220 {name} ESMTP toy\r\n").as_bytes())
        .await?;
    let mut mail = Mail::default();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" | "LHLO" => {
                format!("250-{name}\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 DSN\r\n")
            }
            "MAIL" => {
                mail = Mail {
                    from: path(&line),
                    ..Mail::default()
                };
                "250 2.1.0 Ok\r\n".to_owned()
            }
            "RCPT" => {
                mail.recipients.push(path(&line));
                "250 2.1.5 Ok\r\n".to_owned()
            }
            "DATA" => {
                write.write_all(b"354 go ahead\r\n").await?;
                mail.text = read_message(&mut lines).await?;
                accept(std::mem::take(&mut mail)).concat()
            }
            "QUIT" => return write.write_all(b"221 2.0.0 Bye\r\n").await,
            _ => "250 2.0.0 Ok\r\n".to_owned(),
        };
        write.write_all(reply.as_bytes()).await?;
    }
}

fn path(line: &str) -> String {
    line.split(['<', '>']).nth(1).unwrap_or_default().to_owned()
}

/// The DATA text, dot-stuffed as it came.
async fn read_message(lines: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let start = text.len();
        if lines.read_until(b'\n', &mut text).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if &text[start..] == b".\r\n" {
            text.truncate(start);
            return Ok(text);
        }
    }
}

/// Offers a mail to `next_hop` until nobody is left who has to wait. The demo's end is its only limit.
async fn deliver(mut mail: Mail, mta: Mta, next_hop: SocketAddr) {
    tokio::time::sleep(mta.dwell).await;
    loop {
        if let Ok(waiting) = transfer(&mail, mta.name, next_hop).await {
            mail.recipients = waiting;
        }
        if mail.recipients.is_empty() {
            return;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// One LMTP transaction; returns the recipients that were told to wait.
async fn transfer(mail: &Mail, name: &str, next_hop: SocketAddr) -> io::Result<Vec<String>> {
    let mut stream = TcpStream::connect(next_hop).await?;
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read);
    reply(&mut lines).await?;
    let mut commands = vec![
        format!("LHLO {name}\r\n"),
        format!("MAIL FROM:<{}>\r\n", mail.from),
    ];
    commands.extend(
        mail.recipients
            .iter()
            .map(|rcpt| format!("RCPT TO:<{rcpt}>\r\n")),
    );
    commands.push("DATA\r\n".to_owned());
    for command in commands {
        write.write_all(command.as_bytes()).await?;
        reply(&mut lines).await?;
    }
    write
        .write_all(&[&mail.text[..], b".\r\n"].concat())
        .await?;
    let mut waiting = Vec::new();
    for rcpt in &mail.recipients {
        if reply(&mut lines).await?.starts_with('4') {
            waiting.push(rcpt.clone());
        }
    }
    write.write_all(b"QUIT\r\n").await?;
    Ok(waiting)
}

/// The last line of a reply.
async fn reply(lines: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<String> {
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line);
        }
    }
}
