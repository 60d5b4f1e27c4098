//! Which `WITH` queries can be seen where.

use auspex_plan::{Diagnostic, SqlState};
use sqlparser::ast::{self, ObjectName, ObjectNamePart};

use super::names::MARK;
use super::resolve::{Resolver, address, quoted};
use super::{Result, names};

/// Names in scope.
pub(super) struct Frame {
    pub(super) ctes: Vec<Cte>,
    /// How many of them can be seen where the visit is.
    pub(super) visible: usize,
    pub(super) recursive: bool,
}

pub(super) struct Cte {
    /// Name as written.
    pub(super) name: String,
    /// Name DataFusion is to know it by: one that no outer CTE has.
    pub(super) unique: String,
    /// Address of its query, by which visiting it is recognised.
    pub(super) address: usize,
}

impl Resolver<'_> {
    pub(super) fn is_cte(&self, name: &ObjectName) -> bool {
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return false };
        self.known.contains(&names::fold(ident)) || self.cte(name).is_some()
    }

    /// The CTE a name means here: the innermost one that can be seen.
    pub(super) fn cte(&self, name: &ObjectName) -> Option<&Cte> {
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
        let name = names::fold(ident);
        self.frames
            .iter()
            .rev()
            .find_map(|f| f.ctes.iter().take(f.visible).find(|c| c.name == name))
    }

    /// The names a `WITH` introduces, unique ones written in.
    pub(super) fn introduce(&mut self, with: &mut ast::With) -> Result<Vec<Cte>> {
        let mut ctes: Vec<Cte> = Vec::with_capacity(with.cte_tables.len());
        for cte in &mut with.cte_tables {
            let name = names::fold(&cte.alias.name);
            let span = cte.alias.name.span;
            if ctes.iter().any(|c| c.name == name) {
                return Err(Diagnostic::error(
                    SqlState("42712"),
                    format!("WITH query name \"{name}\" specified more than once"),
                )
                .at_opt(self.at(span)));
            }
            let mut unique = name.clone();
            if self.frames.iter().any(|f| f.ctes.iter().any(|c| c.unique == name)) {
                self.renamed += 1;
                unique = format!("{name}{MARK}{}", self.renamed);
                cte.alias.name = quoted(&unique, span);
            }
            ctes.push(Cte { name, unique, address: address(&cte.query) });
        }
        Ok(ctes)
    }
}
