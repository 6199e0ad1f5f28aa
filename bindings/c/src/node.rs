//! [`Node`]: what a handle of a transport stands for.

use std::{
    collections::HashSet,
    ffi::c_void,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use actix_rt::System;
use actix_transport::{
    Builder, GroupId, Identity, NodeId, PeerAddr, Shutdown, StopReport, Tls, Transport,
};
use parking_lot::Mutex;

use crate::{
    callback::{OnMessages, User, axt_event},
    code::axt_code::*,
    config::Settings,
    context::Shared,
    error::Failure,
    serving::Serving,
    wait::wait_until,
};

/// A transport from before it is bound until after it has stopped.
pub(crate) struct Node {
    shared: Arc<Shared>,
    /// The number of its handle.
    id: u64,
    settings: Settings,
    setup: Mutex<Setup>,
    /// Set when it is bound, and kept after it has stopped, for the counters.
    transport: OnceLock<Transport>,
    serving: Mutex<Vec<Serving>>,
    /// Locked while it stops, so that all who stop it wait for the same end.
    stopped: Mutex<Option<StopReport>>,
}

struct Setup {
    stage: Stage,
    /// Who is served. `None`: all others.
    groups: HashSet<Option<u32>>,
    /// Who is served on the thread on which the transport receives, which is not there before it is bound.
    receiving: Vec<(Option<u32>, OnMessages, User)>,
}

enum Stage {
    /// Not bound. What is said now holds from the first frame on.
    Before(Box<Builder>),
    Bound(Transport),
    Stopped,
}

impl Node {
    pub(crate) fn new(shared: &Arc<Shared>, id: u64, settings: Settings) -> Self {
        let builder = Transport::builder().config(settings.config.clone());
        Node {
            shared: shared.clone(),
            id,
            settings,
            setup: Mutex::new(Setup {
                stage: Stage::Before(Box::new(builder)),
                groups: HashSet::new(),
                receiving: Vec::new(),
            }),
            transport: OnceLock::new(),
            serving: Mutex::default(),
            stopped: Mutex::default(),
        }
    }

    // ---- before it is bound ------------------------------------------------------------------------

    pub(crate) fn identity(&self, identity: Identity) -> Result<(), Failure> {
        self.configure(|builder| builder.identity(identity))
    }

    pub(crate) fn meant(&self, node: NodeId, at: PeerAddr) -> Result<(), Failure> {
        self.configure(|builder| builder.peer(node, at))
    }

    pub(crate) fn tls(&self, tls: Tls) -> Result<(), Failure> {
        self.configure(|builder| builder.tls(tls))
    }

    fn configure(&self, change: impl FnOnce(Builder) -> Builder) -> Result<(), Failure> {
        match &mut self.setup.lock().stage {
            Stage::Before(builder) => {
                **builder = change((**builder).clone());
                Ok(())
            }
            Stage::Bound(_) => Err(AXT_STATE.into()),
            Stage::Stopped => Err(AXT_STOPPED.into()),
        }
    }

    /// Binds it, to the address in the file if none is given. If that fails, it may be tried again.
    pub(crate) fn bind(&self, addr: Option<&str>) -> Result<(), Failure> {
        let none = || {
            Failure::new(
                AXT_ADDRESS,
                "no address is given, and the file has no `listen`",
            )
        };
        let addr = addr.or(self.settings.listen.as_deref()).ok_or_else(none)?;
        let mut setup = self.setup.lock();
        let transport = match &setup.stage {
            Stage::Before(builder) => self.start((**builder).clone(), addr, &setup.receiving)?,
            Stage::Bound(_) => return Err(AXT_STATE.into()),
            Stage::Stopped => return Err(AXT_STOPPED.into()),
        };
        // Only here, and only once.
        let _ = self.transport.set(transport.clone());
        setup.stage = Stage::Bound(transport);
        Ok(())
    }

    /// Binds, and starts those who are served on the thread on which the transport receives.
    fn start(
        &self,
        builder: Builder,
        addr: &str,
        receiving: &[(Option<u32>, OnMessages, User)],
    ) -> Result<Transport, Failure> {
        let mut started = Vec::new();
        let bind = || {
            builder.bind_with(addr, |transport| {
                for &(group, on, user) in receiving {
                    let (actor, serving) =
                        Serving::receiving(&self.shared, self.id, on, user, transport);
                    started.push(serving);
                    match group {
                        Some(group) => transport.register(GroupId::new(group), actor)?,
                        None => match on {
                            OnMessages::Each(_) => transport.catch_all_in_order(actor),
                            OnMessages::Batch(_) => transport.catch_all(Some(actor)),
                        },
                    }
                }
                Ok(())
            })
        };
        // A callback may run in the actix `System` of another transport, and what is made there would end with that.
        let bound = match System::try_current() {
            None => bind(),
            Some(_) => thread::scope(|scope| scope.spawn(bind).join()).map_err(|_| AXT_FAULT)?,
        };
        let transport = bound?;
        self.serving.lock().append(&mut started);
        Ok(transport)
    }

    // ---- callbacks ---------------------------------------------------------------------------------

    /// Lets `on` be called for the messages of a group, or for those that no other registration is for.
    pub(crate) fn register(
        &self,
        group: Option<u32>,
        on: OnMessages,
        user: User,
        threads: u32,
    ) -> Result<(), Failure> {
        if group == Some(GroupId::RESERVED.get()) {
            return Err(AXT_GROUP_RESERVED.into());
        }
        let mut setup = self.setup.lock();
        if let Stage::Stopped = setup.stage {
            return Err(AXT_STOPPED.into());
        }
        if setup.groups.contains(&group) {
            let what = group.map_or("all groups are".to_owned(), |group| {
                format!("group {group} is")
            });
            return Err(Failure::new(
                AXT_GROUP_TAKEN,
                format_args!("{what} already served"),
            ));
        }
        let (actor, serving) = match (threads, &setup.stage) {
            (0, Stage::Bound(transport)) => {
                Serving::receiving(&self.shared, self.id, on, user, transport)
            }
            (0, _) => {
                setup.receiving.push((group, on, user));
                setup.groups.insert(group);
                return Ok(());
            }
            _ => Serving::messages(&self.shared, self.id, on, user, threads)?,
        };
        // A batch of C has one group, and several threads would handle different groups at once: then there is no order.
        let in_order = threads <= 1 && matches!(on, OnMessages::Each(_));
        match (&mut setup.stage, group.map(GroupId::new)) {
            (Stage::Before(builder), group) => {
                let before = (**builder).clone();
                **builder = match group {
                    Some(group) => before.register(group, actor),
                    None if in_order => before.catch_all_in_order(actor),
                    None => before.catch_all(actor),
                };
            }
            (Stage::Bound(transport), Some(group)) => transport.register(group, actor)?,
            (Stage::Bound(transport), None) if in_order => transport.catch_all_in_order(actor),
            (Stage::Bound(transport), None) => transport.catch_all(Some(actor)),
            (Stage::Stopped, _) => return Err(AXT_STOPPED.into()),
        }
        setup.groups.insert(group);
        self.serving.lock().push(serving);
        Ok(())
    }

    /// Lets `on` be called for events.
    pub(crate) fn subscribe(
        &self,
        on: unsafe extern "C" fn(*mut c_void, *const axt_event),
        user: User,
    ) -> Result<(), Failure> {
        let mut setup = self.setup.lock();
        if let Stage::Stopped = setup.stage {
            return Err(AXT_STOPPED.into());
        }
        let (actor, serving) = Serving::events(&self.shared, self.id, on, user)?;
        match &mut setup.stage {
            Stage::Before(builder) => **builder = (**builder).clone().subscribe(actor),
            Stage::Bound(transport) => transport.subscribe(actor),
            Stage::Stopped => return Err(AXT_STOPPED.into()),
        }
        self.serving.lock().push(serving);
        Ok(())
    }

    // ---- use ---------------------------------------------------------------------------------------

    /// Returns the transport, also after it has stopped.
    pub(crate) fn transport(&self) -> Result<&Transport, Failure> {
        match self.transport.get() {
            Some(transport) => Ok(transport),
            None => Err(match self.setup.lock().stage {
                Stage::Stopped => AXT_STOPPED.into(),
                _ => AXT_STATE.into(),
            }),
        }
    }

    /// Returns the address of a peer that is called so in the file.
    pub(crate) fn named(&self, name: &str) -> Option<&PeerAddr> {
        self.settings.peers.get(name)
    }

    /// Stops it, and waits for the callbacks that run. None begins after this has returned.
    pub(crate) fn stop(&self, how: Shutdown) -> Result<StopReport, Failure> {
        self.shared.may_wait()?;
        let mut stopped = self.stopped.lock();
        if let Some(report) = &*stopped {
            return Ok(report.clone());
        }
        self.setup.lock().stage = Stage::Stopped;
        let report = self
            .transport
            .get()
            .map(|transport| self.end(transport, how));
        let report = report.unwrap_or_default();
        let serving = std::mem::take(&mut *self.serving.lock());
        serving.iter().for_each(Serving::close);
        drop(serving);
        *stopped = Some(report.clone());
        Ok(report)
    }

    /// Ends the transport, and lets no callback for messages begin when the time is over: the rest of a batch may
    /// be with one, and the transport waits for its own threads, on which callbacks may run.
    fn end(&self, transport: &Transport, how: Shutdown) -> StopReport {
        let limit = match how {
            Shutdown::Drain(limit) => limit,
            Shutdown::Now => Duration::ZERO,
        };
        // A time that is too long for the clock is no limit.
        let deadline = Instant::now().checked_add(limit);
        let report = wait_until(deadline, transport.stop(how));
        // Whoever cancels a stop leaves the transport stopping: what is dropped from here on counts as undelivered.
        let report = report
            .or_else(|| wait_until(Some(Instant::now()), transport.stop(Shutdown::Now)))
            .or_else(|| {
                let serving = self.serving.lock();
                serving.iter().for_each(Serving::close_to_messages);
                drop(serving);
                wait_until(None, transport.stop(Shutdown::Now))
            });
        report.unwrap_or_default()
    }
}
