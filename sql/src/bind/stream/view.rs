//! Which output columns tell the rows of an aggregate apart.

use auspex_plan::nodes::{OutputRate, RetentionWindow, StreamAggregate};
use auspex_plan::{Diagnostic, Emit, SqlState, Window};
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNodeCore};

use super::times::plain;

/// A group column: its name, and where it is; one of several places is enough.
struct Group {
    name: String,
    places: Vec<usize>,
}

/// Positions of the group columns in a plan's output, or the name of the first that is not there.
/// `None` when the plan is no aggregate.
pub(super) fn group_columns(plan: &LogicalPlan) -> Option<Result<Vec<usize>, String>> {
    let groups = groups(plan)?;
    let mut key = Vec::new();
    for group in groups {
        if group.places.is_empty() {
            return Some(Err(group.name));
        }
        key.extend(group.places);
    }
    key.sort_unstable();
    key.dedup();
    Some(Ok(key))
}

fn groups(plan: &LogicalPlan) -> Option<Vec<Group>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => groups(&alias.input),
        LogicalPlan::Filter(filter) => groups(&filter.input),
        LogicalPlan::Projection(projection) => {
            let mut groups = groups(&projection.input)?;
            let schema = projection.input.schema();
            let columns: Vec<Option<usize>> = projection
                .expr
                .iter()
                .map(|e| plain(e).and_then(|c| schema.maybe_index_of_column(c)))
                .collect();
            for group in &mut groups {
                let places = (0..columns.len())
                    .filter(|i| columns[*i].is_some_and(|below| group.places.contains(&below)));
                group.places = places.collect();
            }
            Some(groups)
        }
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            if let Some(rate) = node.downcast_ref::<OutputRate>() {
                return groups(&rate.input);
            }
            if let Some(window) = node.downcast_ref::<RetentionWindow>() {
                let schema = window.input.schema();
                let groups = window.keys.iter().map(|key| Group {
                    name: key.to_string(),
                    places: plain(key)
                        .and_then(|c| schema.maybe_index_of_column(c))
                        .into_iter()
                        .collect(),
                });
                return (!window.aggregates.is_empty()).then(|| groups.collect());
            }
            let aggregate = node.downcast_ref::<StreamAggregate>()?;
            let bound = |places: &[usize]| Group {
                name: "window_end".to_string(),
                places: places.to_vec(),
            };
            let mut groups = match aggregate.window {
                Window::Unbounded => Vec::new(),
                Window::Cumulate { .. } => vec![bound(&[1])],
                Window::Count { .. } => vec![bound(&[0]), bound(&[1])],
                Window::Hop { .. } | Window::Session { .. } => vec![bound(&[0, 1])],
            };
            let first = if aggregate.window.has_bounds() { 2 } else { 0 };
            groups.extend((0..aggregate.keys.len()).map(|i| Group {
                name: aggregate.schema().field(first + i).name().clone(),
                places: vec![first + i],
            }));
            Some(groups)
        }
        _ => None,
    }
}

/// Whether a condition stands over results that are replaced later: its rows would stay although
/// they have ceased to satisfy it.
pub(super) fn has_condition(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => changes(&filter.input) || has_condition(&filter.input),
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) => {
            plan.inputs().into_iter().any(has_condition)
        }
        _ => false,
    }
}

fn changes(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => {
            plan.inputs().into_iter().any(changes)
        }
        LogicalPlan::Extension(extension) => {
            let aggregate = extension.node.as_any().downcast_ref::<StreamAggregate>();
            aggregate.is_some_and(|a| a.emit != Emit::OnClose || a.lateness_us > 0)
        }
        _ => false,
    }
}

/// The error for a group column that is not selected.
pub(super) fn missing_key(name: &str) -> Diagnostic {
    Diagnostic::error(
        SqlState::INVALID_COLUMN_REFERENCE,
        format!("group column \"{name}\" must be in the select list"),
    )
    .detail("It tells the rows of the result apart.")
}
