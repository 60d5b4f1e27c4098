//! The table of diagnostic codes of VPL.
//!
//! A code never changes its meaning; a retired one is not used again. `VPL00xx` is about the text,
//! `VPL01xx` names, `VPL02xx` types, `VPL03xx` streams and operations, `VPL04xx` patterns,
//! `VPL05xx` declarations, `VPL08xx` things that are not built, `VPL09xx` warnings.

use std::fmt;

/// A code with its title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `VPL0xxx`
    pub code: &'static str,
    /// What it is about, in a few words.
    pub title: &'static str,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)*) => {
        $(
            #[doc = $title]
            pub const $name: &str = $code;
        )*
        /// Every code, in order.
        pub const ALL: &[Code] = &[$(Code { code: $code, title: $title }),*];
    };
}

codes! {
    SYNTAX = "VPL0001", "the text does not follow the grammar";
    UNTERMINATED_STRING = "VPL0002", "a string has no closing quote";
    UNTERMINATED_COMMENT = "VPL0003", "a comment has no end";
    NESTING = "VPL0004", "brackets or blocks are nested too deeply";
    BRACKET = "VPL0005", "a bracket has no partner";
    LITERAL = "VPL0006", "a number, duration, timestamp or string cannot be read";
    INDENTATION = "VPL0007", "a block is missing or unevenly indented";
    STRAY = "VPL0008", "something stands where a declaration must begin";
    LOOP_EXPANSION = "VPL0009", "a top-level `for` cannot be expanded";

    UNKNOWN_FIELD = "VPL0101", "no field, alias or variable of that name";
    UNKNOWN_RELATION = "VPL0102", "no event type, stream or table of that name";
    UNKNOWN_FUNCTION = "VPL0103", "no function of that name";
    UNKNOWN_TYPE = "VPL0104", "no type of that name";
    UNKNOWN_OPERATION = "VPL0105", "no stream operation of that name";
    DUPLICATE_NAME = "VPL0106", "the name is taken";
    AMBIGUOUS_NAME = "VPL0107", "the name means several things";
    UNKNOWN_OBJECT = "VPL0108", "no pattern, connector, context or import of that name";

    TYPE_MISMATCH = "VPL0201", "types do not fit";
    ARGUMENTS = "VPL0202", "wrong number, name or kind of arguments";
    NOT_CONSTANT = "VPL0203", "a constant is needed";
    OVERFLOW = "VPL0204", "a constant is out of range";

    UNBOUNDED = "VPL0301", "the operation needs a window or bound on an endless stream";
    CYCLE = "VPL0302", "streams feed each other in a circle";
    MISPLACED_OPERATION = "VPL0303", "the operation is not possible at this place";
    WATERMARK = "VPL0304", "the watermark cannot be declared";

    PATTERN = "VPL0401", "the pattern cannot match as written";
    ABSENCE_WITHOUT_LIMIT = "VPL0402", "a final negation has no time limit";
    LATER_STEP = "VPL0403", "a condition refers to a later step";

    IMMUTABLE = "VPL0501", "the variable cannot be assigned";
    RECURSION = "VPL0502", "declarations refer to each other in a circle";

    UNSUPPORTED = "VPL0801", "this part of the language is not built yet";

    DEPRECATED = "VPL0901", "deprecated";
    SUSPICIOUS = "VPL0902", "probably not what was meant";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascending() {
        assert!(ALL.windows(2).all(|w| w[0].code < w[1].code));
        assert!(ALL.iter().all(|c| c.code.starts_with("VPL0") && c.code.len() == 7));
    }
}
