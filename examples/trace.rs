//! Calls between two processes, and the one trace that they belong to.
//!
//! ```text
//! cargo run --example trace --features remote,opentelemetry
//! ```
//!
//! The program starts itself again as the kitchen. It orders a meal there, and the kitchen asks back for the recipe.
//! Both processes export their spans with OpenTelemetry, as lines. The program puts them together, prints them as a
//! tree, and fails if that is not one trace, or if a span has not the parent that it should have.

use std::io::{self, BufRead};
use std::process::{self, Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{collections::HashSet, env, error::Error, thread, time::Duration};

use actix::prelude::*;
use actix_transport::{
    GroupId, Identity, NodeId, Peer, RemoteMessage, Shutdown, Traced, Transport,
};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, Level, info_span};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

const GROUP: GroupId = GroupId::new(1);

/// What the trace must be: which process has which span, below its parent.
const TREE: &str = "
guest   dinner
guest     call (client)
kitchen     call (server)
kitchen       call (client)
guest           call (server)
guest             look up
kitchen       cook
";

#[derive(Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "Result<String, String>")]
#[remote(id = 1)]
struct Order(String);

#[derive(Message, RemoteMessage, Serialize, Deserialize)]
#[rtype(result = "String")]
#[remote(id = 2)]
struct Recipe(String);

/// Cooks what a guest orders, by the guest's recipe.
struct Cook {
    guest: Peer,
}

impl Actor for Cook {
    type Context = Context<Self>;
}

impl Handler<Traced<Order>> for Cook {
    type Result = ResponseFuture<Result<String, String>>;

    fn handle(&mut self, order: Traced<Order>, _: &mut Context<Self>) -> Self::Result {
        let (Order(meal), span) = order.into_parts();
        let guest = self.guest.recipient::<Recipe>(GROUP);
        let cooks = async move {
            let recipe = guest.send(Recipe(meal)).await;
            let recipe = recipe.map_err(|why| why.to_string())?;
            info_span!("cook").in_scope(|| Ok(format!("{recipe}, well done")))
        };
        Box::pin(span.wrap(cooks))
    }
}

/// Has a recipe for everything.
struct Book;

impl Actor for Book {
    type Context = Context<Self>;
}

impl Handler<Traced<Recipe>> for Book {
    type Result = String;

    fn handle(&mut self, recipe: Traced<Recipe>, _: &mut Context<Self>) -> String {
        recipe
            .in_scope(|Recipe(meal)| info_span!("look up").in_scope(|| format!("{meal} with salt")))
    }
}

/// Exports each span as a line: trace, id, parent, process and name.
#[derive(Debug, Clone)]
struct Lines {
    process: &'static str,
    lines: Arc<Mutex<Vec<String>>>,
}

impl SpanExporter for Lines {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            let (ids, parent, process) = (&span.span_context, span.parent_span_id, self.process);
            let (trace, id) = (ids.trace_id(), ids.span_id());
            let kind = match &*span.name {
                "call" => format!(" ({:?})", span.span_kind).to_lowercase(),
                _ => String::new(),
            };
            let line = format!("span {trace} {id} {parent} {process} {}{kind}", span.name);
            println!("{line}");
            self.lines.lock().expect("no panic").push(line);
        }
        Ok(())
    }
}

/// Exports the spans of this program and those of calls. Others, of connections for example, belong to no trace.
fn export(process: &'static str) -> Lines {
    let lines = Arc::default();
    let exporter = Lines { process, lines };
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("trace"));
    let exported = Targets::new()
        .with_target("trace", Level::INFO)
        .with_target("actix_transport::call", Level::INFO);
    tracing_subscriber::registry()
        .with(exported)
        .with(layer)
        .init();
    exporter
}

fn node(number: u64) -> Result<Transport, actix_transport::BindError> {
    let identity = Identity::new(NodeId::new(number)).cluster("trace");
    Transport::builder().identity(identity).bind("127.0.0.1:0")
}

/// Cooks for the guest at this address until the standard input ends.
async fn run_kitchen(guest: &str) -> Result<(), Box<dyn Error>> {
    export("kitchen");
    let transport = node(2)?;
    let guest = transport.peer(guest)?;
    transport.serve_traced::<Order>(GROUP, Cook { guest }.start())?;
    println!("listens on {}", transport.local_addr());
    let input = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin()));
    input.await??;
    transport.stop(Shutdown::Now).await;
    Ok(())
}

/// Orders a meal. Returns the spans of both processes.
async fn dine() -> Result<Vec<String>, Box<dyn Error>> {
    let exporter = export("guest");
    let transport = node(1)?;
    transport.serve_traced::<Recipe>(GROUP, Book.start())?;
    let mut kitchen = Kitchen::start(&transport.local_addr().to_string())?;
    let addr = kitchen.address()?;

    let orders = transport.peer(addr.as_str())?.recipient::<Order>(GROUP);
    let order = orders.send(Order("soup".into()));
    let meal = order.instrument(info_span!("dinner")).await??;
    println!("the meal: {meal}");
    transport.stop(Shutdown::Now).await;
    let mut spans = kitchen.close()?;
    spans.extend(exporter.lines.lock().expect("no panic").drain(..));
    Ok(spans)
}

/// The other process.
struct Kitchen {
    process: Child,
    lines: io::Lines<io::BufReader<ChildStdout>>,
}

impl Kitchen {
    fn start(guest: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(env::current_exe()?);
        command
            .arg(guest)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let lines = io::BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Ok(Kitchen { process, lines })
    }

    fn address(&mut self) -> Result<String, Box<dyn Error>> {
        let line = self.lines.next().ok_or("the kitchen has ended")??;
        let addr = line.strip_prefix("listens on ");
        Ok(addr.ok_or("the kitchen says something else")?.to_owned())
    }

    /// Lets it end. Returns its spans.
    fn close(mut self) -> Result<Vec<String>, Box<dyn Error>> {
        drop(self.process.stdin.take());
        let spans: Vec<_> = self.lines.collect::<Result<_, _>>()?;
        spans.iter().for_each(|span| println!("{span}"));
        match self.process.wait()?.success() {
            true => Ok(spans),
            false => Err("the kitchen has failed".into()),
        }
    }
}

/// A line of a process.
#[derive(Debug)]
struct Span<'a> {
    trace: &'a str,
    id: &'a str,
    parent: &'a str,
    process: &'a str,
    name: &'a str,
}

impl<'a> Span<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut parts = line.strip_prefix("span ")?.splitn(5, ' ');
        Some(Span {
            trace: parts.next()?,
            id: parts.next()?,
            parent: parts.next()?,
            process: parts.next()?,
            name: parts.next()?,
        })
    }
}

/// Adds what is below this parent. Spans that share a parent are of one process, and come in the order of their ends.
fn add_children(tree: &mut String, spans: &[Span<'_>], parent: &str, depth: usize) {
    for span in spans.iter().filter(|span| span.parent == parent) {
        let (process, space) = (span.process, "  ".repeat(depth));
        tree.push_str(&format!("{process:<8}{space}{}\n", span.name));
        add_children(tree, spans, span.id, depth + 1);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(guest) = env::args().nth(1) {
        return System::new().block_on(run_kitchen(&guest));
    }
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(60));
        eprintln!("what should happen does not happen");
        process::exit(1);
    });
    let lines = System::new().block_on(dine())?;
    let spans: Option<Vec<_>> = lines.iter().map(|line| Span::read(line)).collect();
    let spans = spans.ok_or("a line is no span")?;
    let traces: HashSet<_> = spans.iter().map(|span| span.trace).collect();
    let mut tree = String::from("\n");
    add_children(&mut tree, &spans, &"0".repeat(16), 0);
    println!("{} trace:\n{tree}", traces.len());
    match traces.len() == 1 && tree == TREE {
        true => Ok(()),
        false => Err("this is not the trace that it should be".into()),
    }
}
