//! Messages with one topic that came at a time, on their way to their receivers.

use mqtt_codec::{PublishRun, QoS};

use super::{Published, Shared};
use crate::hooks::Interests;
use crate::journal::Unrecorded;
use crate::publication::Publication;
use crate::router::Route;
use crate::sync::Arc;
use crate::{Message, Worker};

impl Shared {
    /// Whether runs of messages can be passed on without a look at each: nobody is told of each
    /// message, and what is delivered is what came, once. With a journal each is a record of its own.
    pub(crate) fn passes_runs(&self) -> bool {
        let config = &self.config;
        self.log.is_none()
            && self.interests() == Interests::default()
            && !config.upgrade_qos
            && !config.deliver_overlaps
    }

    /// Whether all receivers have room for all messages of a run.
    pub(crate) fn has_room(&self, run: PublishRun<'_>, worker: &mut Worker) -> bool {
        let routes = self.router.routes(run.topic(), false, &mut worker.routes);
        // A message without RETAIN: what is retained is kept one by one.
        routes.iter().all(|route| match route {
            Route::One { session, qos } => {
                session.lock().takes_run(run, run.qos().min(*qos), &self.config)
            }
            Route::Group(_) => false,
        })
    }

    /// Routes messages that may be published, and for which there was room a moment ago.
    ///
    /// Looking up, locking and waking once a run, and one block for what receivers keep of it, is two
    /// thirds of what a message costs the broker itself.
    pub(crate) fn route_run(&self, run: PublishRun<'_>, worker: &mut Worker) {
        let routes = self.router.routes(run.topic(), false, &mut worker.routes);
        let mut kept = std::mem::take(&mut worker.kept);
        let keeps = |route: &Route| run.qos().min(route.qos()) > QoS::AtMostOnce;
        if routes.iter().any(keeps) {
            kept.extend(run.to_bufs().map(Message::from));
        }
        for route in routes.iter() {
            if let Route::One { session, qos } = route {
                let qos = run.qos().min(*qos);
                let mut state = session.lock();
                let has_room = state.takes_run(run, qos, &self.config);
                if has_room || state.bears_run(qos) {
                    state.deliver_run(run, qos, &kept, &self.config, worker);
                    state.wake(&self.config, &mut worker.wakes);
                    if !has_room && !state.is_held {
                        worker.congested.push(Arc::clone(session));
                    }
                    continue;
                }
            }
            // Another thread was faster.
            for publish in run.publishes() {
                let publication = Publication::new(publish);
                let published = &mut Published::default();
                self.deliver_along(route, &publication, worker, &mut Unrecorded, published);
                self.report(&publication, worker);
            }
        }
        kept.clear();
        worker.kept = kept;
    }
}
