//! What connections and sessions leave to do when they end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::delivery::drop_message;
use super::{Published, Shared};
use crate::hooks::DropReason;
use crate::journal::{Record, Recorder, Transaction};
use crate::publication::Publication;
use crate::router::Member;
use crate::session::{Displaced, Ended, Queued, Session};
use crate::sync::Arc;
use crate::worker::Report;
use crate::{Message, Worker};

impl Shared {
    /// Does what the end of absent clients' sessions left to do.
    pub(super) fn forget(
        &self,
        displaced: Vec<Displaced>,
        tx: Transaction<'_>,
        worker: &mut Worker,
    ) {
        let ended = displaced.iter().filter_map(|displaced| displaced.ended.as_ref());
        let sessions: Vec<_> = ended.map(|ended| Arc::clone(&ended.session)).collect();
        self.settle(displaced, tx, worker);
        for session in sessions {
            self.hooks.session_ended(session.client_id());
        }
    }

    /// Does what ended connections or sessions left to do: first as part of the transaction in which
    /// they ended, then, when no lock is held, what hooks have a say in.
    ///
    /// The connection that this is called from may be another client's, so a hook that panics costs
    /// the messages at hand and nothing else.
    pub(crate) fn settle(
        &self,
        displaced: impl IntoIterator<Item = Displaced>,
        mut tx: Transaction<'_>,
        worker: &mut Worker,
    ) {
        let mut wills = Vec::new();
        let mut shared = Vec::new();
        for displaced in displaced {
            worker.wakes.extend(displaced.wakes);
            wills.extend(displaced.will);
            if let Some(Ended { session, subscriptions, shared: left }) = displaced.ended {
                let _changing = session.lock_subscriptions();
                for &subscription in subscriptions.as_slice() {
                    self.router.unsubscribe(subscription, &session);
                }
                shared.extend(left);
            }
            if let Some(session) = displaced.left {
                shared.extend(self.take_shared_from(&session, &mut tx));
            }
        }
        let shared = catch_unwind(AssertUnwindSafe(|| self.share_again(shared, worker, &mut tx)));
        drop(tx);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            for (message, reports) in shared.unwrap_or_default() {
                worker.reports = reports;
                self.report(&Publication::from(&message), worker);
            }
        }));
        for will in wills {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let publication = Publication::from(&will.message);
                // There is no connection that a refusal could end, and nobody to answer.
                let _ = self.publish_from(&will.client, &publication, None, worker);
                worker.congested.clear();
            }));
        }
    }

    /// The client of a session is gone: messages of its groups go to other members that are there.
    fn take_shared_from(&self, session: &Arc<Session>, tx: &mut impl Recorder) -> Vec<Queued> {
        let groups = session.lock().groups();
        let is_ready =
            |member: &Member| !member.is(session) && member.session.lock().is_ready(&self.config);
        let mut taken = Vec::new();
        for group in groups {
            if group.turn().iter().any(is_ready) {
                let mut state = session.lock();
                let shared = state.take_shared_if_absent(&group);
                for number in shared.iter().filter_map(|queued| queued.number) {
                    tx.record(Record::Withdraw { id: number, session: session.id().into() });
                }
                tx.touch(session, &mut state);
                taken.extend(shared);
            }
        }
        taken
    }

    /// Hands messages of groups to other members. Gives back what there is to report.
    fn share_again(
        &self,
        shared: Vec<Queued>,
        worker: &mut Worker,
        tx: &mut impl Recorder,
    ) -> Vec<(Message, Vec<Report>)> {
        let mut reports = Vec::new();
        if !shared.is_empty() {
            // It comes from a session that need not survive, perhaps, and goes to one that does.
            tx.open();
        }
        for Queued { message, group, .. } in shared {
            let Some(group) = group else { continue };
            let publication = Publication::from(&message);
            let mut published = Published::default();
            self.deliver_to_one(&publication, &group, worker, tx, &mut published);
            tx.end_message(&publication);
            if published == Published::default() {
                drop_message(None, DropReason::NoMember, worker);
            }
            if !worker.reports.is_empty() {
                reports.push((message, std::mem::take(&mut worker.reports)));
            }
        }
        reports
    }
}
