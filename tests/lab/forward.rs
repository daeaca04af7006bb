//! `gimlet forward` under load.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::data::noise;
use crate::nat::Nat;
use crate::peers::{Peer, Rendezvous};
use crate::sockets::{SOON, at, dial, listen};
use crate::topology::Lab;

const CLIENTS: usize = 200;

/// For all clients together; two debug builds share the machine with 400 threads.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn forward_carries_200_http_clients_at_once_directly() {
    let lab = Lab::plan().between(Nat::PRESERVING, Nat::EIM).delay_ms(5).alone().build();
    let rendezvous = Rendezvous::start(&lab);
    let a = Peer::new(&lab.a, &rendezvous);
    let b = Peer::new(&lab.b, &rendezvous);
    let page = noise(4, 64 << 10);
    let service = at([127, 0, 0, 1], 8080);
    let http = HttpServer::start(listen(&lab.b.namespace, service), page.clone());
    let share = b.share("web", service, &a);
    let entrance = at([127, 0, 0, 1], 2080);
    let forward = a.forward(entrance, &b, "web");

    // Nobody leaves before everybody has an answer, so all are connected at once.
    let together = Barrier::new(CLIENTS);
    let get_page = || {
        let stream = connect(&lab, entrance);
        let answer = stream.as_ref().map_err(|e| e.to_string()).and_then(get);
        together.wait();
        answer
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(get_page)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let lost: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(lost.is_empty(), "{} of {CLIENTS} lost: {:?}", lost.len(), lost.first());
    assert!(answers.iter().flatten().all(|answer| *answer == page), "a page differs");

    for number in 1..=CLIENTS {
        let connected = forward.event("connected", SOON);
        assert_eq!(connected["path"], "direct", "client {number}: {connected}");
    }
    for (name, threads) in [("forward", forward.threads()), ("share", share.threads())] {
        assert!(threads <= 2, "gimlet {name} has {threads} threads");
    }
    drop(http);
}

fn connect(lab: &Lab, entrance: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = dial(&lab.a.namespace, at([127, 0, 0, 1], 0), entrance, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn get(mut stream: &TcpStream) -> Result<Vec<u8>, String> {
    let text = |e: std::io::Error| e.to_string();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n").map_err(text)?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).map_err(text)?;
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap(),
            _ if line == "\r\n" => break,
            _ if line.is_empty() => return Err("the server hung up".to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).map_err(text)?;
    Ok(body)
}

/// As much of HTTP as it takes to serve one page to everybody.
struct HttpServer(TcpListener);

impl HttpServer {
    fn start(listener: TcpListener, page: Vec<u8>) -> Self {
        let clients = listener.try_clone().unwrap();
        thread::spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((client, _)) = clients.accept() {
                let page = page.clone();
                // A client that is gone is missed by the test, not here.
                thread::spawn(move || drop(serve(&client, &page)));
            }
        });
        Self(listener)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let _ = SockRef::from(&self.0).shutdown(std::net::Shutdown::Both);
    }
}

fn serve(client: &TcpStream, page: &[u8]) -> std::io::Result<()> {
    let mut writer = client;
    for line in BufReader::new(client).lines() {
        if line?.is_empty() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
            writer.write_all(&[head.as_bytes(), page].concat())?;
        }
    }
    Ok(())
}
