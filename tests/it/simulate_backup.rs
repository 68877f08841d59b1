//! Backups in the middle of everything else, each over the one before.
//!
//! Invariants:
//!   * A backup is the store as of one commit, with the past that the store had then.

use super::model::ObjectModel;
use super::simulate_checks::{Fault, check_all};
use super::simulate_past::compare_all;
use super::simulate_world::{Outcome, Stop, World, namespace_name};
use dostore::disk::sim::SimDisk;
use dostore::ids::Lsn;
use dostore::store::backup::{Backup, BackupOptions};

impl World {
    /// Makes or renews the backup of the store, and looks what is in it.
    pub fn back_up(&mut self) -> Outcome {
        let seed = self.disk.calls();
        let target = self.backup.take().unwrap_or_else(|| SimDisk::new(seed));
        let store = self.running().store.clone();
        let made = store.backup_on(target.clone(), BackupOptions::new().verify(true));
        drop(store);
        // It may have left a cut open.
        self.has_open_cut = true;
        self.note(format_args!("backup: {made:?}"));
        let target = if self.chance.percent(50) { target.power_cut() } else { target.kill() };
        let Backup { position, verified, .. } = match made {
            Ok(made) => made,
            Err(error) => {
                self.backup = Some(target);
                return self.judge("a backup", &error);
            }
        };
        self.acknowledged(position.lsn.min(self.issued));
        if let Some(fault) = verified.and_then(|report| report.faults.into_iter().next()) {
            return Err(Stop::Violation(format!("a backup has {fault}")));
        }
        let checked = self.check_backup(&target, position.lsn);
        self.backup = Some(target);
        match checked {
            Ok(keys) => {
                self.counts.past += keys;
                Ok(())
            }
            Err(fault) => Err(Stop::Violation(format!("a backup of {}: {fault:?}", position.lsn))),
        }
    }

    /// Every object of a backup as it was then, and one of them as it ever was.
    fn check_backup(&mut self, target: &SimDisk, at: Lsn) -> Result<u64, Fault> {
        let store = self.plan.options(&mut self.chance).open_on(target.fork())?;
        let with_past = self.chance.index(self.objects.len());
        let mut compared = 0;
        for object in &self.objects {
            let twin: ObjectModel = object.as_of(at);
            let namespace = store.namespace(&namespace_name(object.namespace))?;
            let view = namespace.snapshot(object.id)?;
            check_all(&view, (object.index, twin.now()))?;
            if object.index == with_past {
                let past = compare_all((&twin, &namespace), &mut self.chance);
                compared += past.map_err(|(_, fault)| fault)?.0;
            }
        }
        Ok(compared)
    }
}
