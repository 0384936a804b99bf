//! Decides which layers of this machine are removed, and why. Pure.
//!
//! A layer needs all layers below it. So the layers above another one are removed before it, and the layers below a kept one are kept.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Action;
use crate::cloud::{LayerId, Standing, StoredLayer};

/// The settings for layers below `[local]` in ami.toml.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long a layer is kept after its last use.
    pub unused: SignedDuration,
    /// The most disk space of all layers, in bytes.
    pub bytes: u64,
}

/// A decision about one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub layer: StoredLayer,
    /// [`Action::Keep`] or [`Action::Remove`].
    pub action: Action,
    /// The reason for the action, for display.
    pub reason: String,
}

/// Decides about all layers. The decisions are in the order in which they must be carried out: layers that no build can start from first,
/// then the least recently used, and each layer after all layers above it.
pub fn plan(layers: &[StoredLayer], policy: &Policy, now: Timestamp) -> Vec<Decision> {
    let (mut listed, mut unusable): (Vec<&StoredLayer>, Vec<&StoredLayer>) =
        layers.iter().partition(|layer| layer.standing == Standing::Listed);
    let by_id: BTreeMap<LayerId, &StoredLayer> = layers.iter().map(|layer| (layer.id, layer)).collect();
    let height = |layer: &StoredLayer| height(&by_id, layer);
    let highest_first = |layer: &StoredLayer| (std::cmp::Reverse(height(layer)), layer.id);
    unusable.sort_by_key(|layer| highest_first(layer));
    let mut decisions: Vec<Decision> = unusable
        .into_iter()
        .map(|layer| Decision { layer: layer.clone(), action: Action::Remove, reason: unusable_for(&layer.standing) })
        .collect();
    // A use of a layer is a use of all layers below it.
    let mut used: BTreeMap<LayerId, Timestamp> = BTreeMap::new();
    listed.sort_by_key(|layer| highest_first(layer));
    for layer in &listed {
        let at = used.get(&layer.id).map_or(layer.used, |above| layer.used.max(*above));
        used.insert(layer.id, at);
        if let Some(below) = layer.below {
            used.entry(below).and_modify(|there| *there = at.max(*there)).or_insert(at);
        }
    }
    listed.sort_by_key(|layer| (used[&layer.id], highest_first(layer)));
    let mut left: u64 = listed.iter().map(|layer| layer.bytes).sum();
    for layer in listed {
        let idle = now.duration_since(used[&layer.id]);
        let (days, limit) = (idle.as_hours() / 24, policy.unused.as_hours() / 24);
        let (action, reason) = if idle > policy.unused {
            (Action::Remove, format!("not used for {days} days, kept for {limit} (layer_days)"))
        } else if left > policy.bytes {
            let (total, limit) = (size(left), size(policy.bytes));
            (Action::Remove, format!("least recently used; the layers take {total}, more than {limit} (layers_gib)"))
        } else {
            (Action::Keep, format!("used {days} days ago, kept for {limit}"))
        };
        if action == Action::Remove {
            left -= layer.bytes;
        }
        decisions.push(Decision { layer: layer.clone(), action, reason });
    }
    decisions
}

/// The number of layers below a layer.
fn height(by_id: &BTreeMap<LayerId, &StoredLayer>, layer: &StoredLayer) -> usize {
    let mut seen = BTreeSet::new();
    let mut below = layer.below;
    // Damaged records could form a cycle.
    while let Some(id) = below.filter(|id| seen.insert(*id)) {
        below = by_id.get(&id).and_then(|layer| layer.below);
    }
    seen.len()
}

fn unusable_for(standing: &Standing) -> String {
    match standing {
        Standing::Listed => String::new(),
        Standing::Replaced => "a newer layer of the same step is used instead".to_owned(),
        Standing::Stranded => "a layer below it was replaced or removed".to_owned(),
        Standing::Unfinished => "its step failed or was interrupted".to_owned(),
        Standing::Broken(problem) => format!("damaged: {problem}"),
        Standing::OldLayout => "made by an older version, whose layers are not used any more".to_owned(),
        Standing::HalfRemoved => "its removal was interrupted".to_owned(),
    }
}

/// A size in MiB, or from 1 GiB in GiB.
pub fn size(bytes: u64) -> String {
    if bytes < 1 << 30 {
        return format!("{} MiB", bytes.div_ceil(1 << 20));
    }
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Generation;
    use crate::recipe::Digest;
    use proptest::prelude::*;

    const POLICY: Policy = Policy { unused: SignedDuration::from_hours(30 * 24), bytes: 40 << 30 };

    fn day(n: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + n * 86_400).unwrap()
    }

    fn id(name: &str) -> LayerId {
        let generation: Generation = "20231114-221320-000000-abcdef".parse().unwrap();
        LayerId { key: Digest::of(name.as_bytes()), generation: Some(generation) }
    }

    /// A listed layer of 10 GiB.
    fn layer(name: &str, below: Option<&str>, used: i64) -> StoredLayer {
        StoredLayer {
            id: id(name),
            step: Some(name.to_owned()),
            below: below.map(id),
            bytes: 10 << 30,
            used: day(used),
            standing: Standing::Listed,
        }
    }

    fn with(standing: Standing, layer: StoredLayer) -> StoredLayer {
        StoredLayer { standing, ..layer }
    }

    fn text(layers: &[StoredLayer], on: i64) -> String {
        let line = |d: Decision| format!("{:?} {}: {}\n", d.action, d.layer.step.unwrap_or_default(), d.reason);
        plan(layers, &POLICY, day(on)).into_iter().map(line).collect()
    }

    #[test]
    fn layers_that_no_build_can_start_from_are_removed_first_and_from_the_top() {
        let layers = [
            layer("base", None, 90),
            layer("tip", Some("base"), 90),
            with(Standing::Replaced, layer("old-1", Some("base"), 90)),
            with(Standing::Stranded, layer("old-2", Some("old-1"), 90)),
            with(Standing::Unfinished, layer("interrupted", None, 90)),
            with(Standing::Broken("its disk is missing".to_owned()), layer("damaged", None, 90)),
            with(Standing::OldLayout, layer("old", None, 90)),
            with(Standing::HalfRemoved, layer("half", None, 90)),
        ];
        insta::assert_snapshot!(text(&layers, 91), @"
        Remove old-2: a layer below it was replaced or removed
        Remove old-1: a newer layer of the same step is used instead
        Remove damaged: damaged: its disk is missing
        Remove half: its removal was interrupted
        Remove old: made by an older version, whose layers are not used any more
        Remove interrupted: its step failed or was interrupted
        Keep tip: used 1 days ago, kept for 30
        Keep base: used 1 days ago, kept for 30
        ");
    }

    #[test]
    fn unused_layers_are_removed_and_layers_below_a_kept_one_are_kept() {
        // The first layers of a chain were last used when the build started, its last ones when they were made.
        let layers = [
            layer("base", None, 59),
            layer("young", Some("base"), 61),
            layer("old", Some("base"), 59),
            layer("older", Some("old"), 50),
        ];
        insta::assert_snapshot!(text(&layers, 90), @"
        Remove older: not used for 40 days, kept for 30 (layer_days)
        Remove old: not used for 31 days, kept for 30 (layer_days)
        Keep young: used 29 days ago, kept for 30
        Keep base: used 29 days ago, kept for 30
        ");
    }

    #[test]
    fn above_the_size_limit_the_least_recently_used_are_removed() {
        let layers = [
            layer("base", None, 89),
            layer("one-2", Some("base"), 80),
            layer("one-3", Some("one-2"), 80),
            layer("two-2", Some("base"), 89),
            layer("two-3", Some("two-2"), 89),
            with(Standing::Unfinished, layer("interrupted", None, 90)),
        ];
        insta::assert_snapshot!(text(&layers, 90), @"
        Remove interrupted: its step failed or was interrupted
        Remove one-3: least recently used; the layers take 50.00 GiB, more than 40.00 GiB (layers_gib)
        Keep one-2: used 10 days ago, kept for 30
        Keep two-3: used 1 days ago, kept for 30
        Keep two-2: used 1 days ago, kept for 30
        Keep base: used 1 days ago, kept for 30
        ");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([0, 1, 5 << 20, 3 << 29].map(size), ["0 MiB", "1 MiB", "5 MiB", "1.50 GiB"]);
    }

    proptest! {
        #[test]
        fn no_layer_loses_a_layer_below_it(
            shapes in prop::collection::vec((0usize..20, 0i64..100, 0u64..20, any::<bool>()), 1..20),
            limit in 1u64..200,
        ) {
            let mut layers: Vec<StoredLayer> = Vec::new();
            for (i, (below, used, size, unusable)) in shapes.into_iter().enumerate() {
                let below = layers.get(below).filter(|_| i > 0).cloned();
                // No build can start from a layer above one that no build can start from.
                let unusable = unusable || below.as_ref().is_some_and(|below| below.standing != Standing::Listed);
                let mut layer = layer(&i.to_string(), None, used);
                (layer.below, layer.bytes) = (below.map(|below| below.id), size << 30);
                layers.push(if unusable { with(Standing::Stranded, layer) } else { layer });
            }
            let plan = plan(&layers, &Policy { bytes: limit << 30, ..POLICY }, day(100));
            prop_assert_eq!(plan.len(), layers.len());
            let mut removed = BTreeSet::new();
            for decision in plan.iter().filter(|d| d.action == Action::Remove) {
                let above = layers.iter().find(|l| l.below == Some(decision.layer.id) && !removed.contains(&l.id));
                prop_assert!(above.is_none(), "{:?} is removed before {above:?}", decision.layer);
                removed.insert(decision.layer.id);
            }
            let left: u64 = layers.iter().filter(|l| !removed.contains(&l.id)).map(|l| l.bytes).sum();
            prop_assert!(left <= limit << 30);
            prop_assert!(layers.iter().all(|l| removed.contains(&l.id) || l.standing == Standing::Listed));
        }
    }
}
