//! What a VPL program says, with the place of every part in the user's text.
//!
//! All spans are byte ranges of the original text, also when the code came out of a top-level
//! `for` (they then point into the loop's body). Parentheses leave no node: an expression in
//! parentheses has the span of the whole parenthesis. Nothing here is checked for meaning: that
//! is the binder's work.

use auspex_plan::diagnostic::Span;

/// A whole program, in textual order; top-level `for` loops are expanded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// The declarations.
    pub statements: Vec<Statement>,
}

/// A name with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident {
    /// The word as written: VPL is case-sensitive.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

/// One top-level declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What it declares.
    pub kind: StatementKind,
    /// From its first word to its last.
    pub span: Span,
}

/// The kinds of top-level declarations.
#[derive(Debug, Clone, PartialEq)]
pub enum StatementKind {
    /// `event E [extends F]: fields`
    Event(EventDecl),
    /// `type N = T`
    Type(TypeDecl),
    /// `let`, `var` and `const`
    Let(Binding),
    /// `name := expr`
    Assign(Assign),
    /// `fn f(..) -> T: block`
    Fn(FnDecl),
    /// `stream S = source ops`
    Stream(StreamDecl),
    /// `pattern P = ..`
    Pattern(PatternDecl),
    /// `connector C = kind (..)`
    Connector(ConnectorDecl),
    /// `context c (cores: [0])`
    Context(ContextDecl),
    /// `config c { .. }` or `config:` with a block (deprecated)
    Config(ConfigDecl),
    /// `import "path" [as x]`
    Import(ImportDecl),
}

/// `event Trade extends Base:` and its fields.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDecl {
    /// Name of the event type.
    pub name: Ident,
    /// Event type whose fields come first.
    pub extends: Option<Ident>,
    /// Fields in order.
    pub fields: Vec<FieldDecl>,
}

/// `price: float?`
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDecl {
    /// Name.
    pub name: Ident,
    /// Type; `nullable` holds the question mark.
    pub ty: TypeExpr,
    /// From the name to the end of the type.
    pub span: Span,
}

/// A type as written.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeExpr {
    /// Its shape.
    pub kind: TypeKind,
    /// Followed by `?`.
    pub nullable: bool,
    /// Its place, question mark included.
    pub span: Span,
}

/// Shapes of types.
#[derive(Debug, Clone, PartialEq)]
pub enum TypeKind {
    /// `int`, `float`, `bool`, `str`, `timestamp`, `duration` or a declared name.
    Named(String),
    /// `[T]`
    Array(Box<TypeExpr>),
    /// `{K: V}`
    Map(Box<TypeExpr>, Box<TypeExpr>),
    /// `(A, B, ..)`
    Tuple(Vec<TypeExpr>),
    /// `Stream<T>`
    Stream(Box<TypeExpr>),
}

/// `type Name = T`
#[derive(Debug, Clone, PartialEq)]
pub struct TypeDecl {
    /// The new name.
    pub name: Ident,
    /// What it stands for.
    pub ty: TypeExpr,
}

/// Which word introduced a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    /// `let`: cannot be assigned.
    Let,
    /// `var`: can be assigned with `:=`.
    Var,
    /// `const`: cannot be assigned.
    Const,
}

/// `let n: int = 1`
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The word used.
    pub kind: BindingKind,
    /// Name.
    pub name: Ident,
    /// Declared type.
    pub ty: Option<TypeExpr>,
    /// Initial value.
    pub value: Expr,
}

/// `name := expr`
#[derive(Debug, Clone, PartialEq)]
pub struct Assign {
    /// The variable.
    pub name: Ident,
    /// Its new value.
    pub value: Expr,
}

/// `fn f(x: int) -> int: block`
#[derive(Debug, Clone, PartialEq)]
pub struct FnDecl {
    /// Name.
    pub name: Ident,
    /// Parameters in order.
    pub params: Vec<ParamDecl>,
    /// Declared result type.
    pub returns: Option<TypeExpr>,
    /// Body; never empty.
    pub body: Vec<Local>,
}

/// `x: int`
#[derive(Debug, Clone, PartialEq)]
pub struct ParamDecl {
    /// Name.
    pub name: Ident,
    /// Type, when written.
    pub ty: Option<TypeExpr>,
}

/// A statement in a function body or in a lambda block.
#[derive(Debug, Clone, PartialEq)]
pub struct Local {
    /// What it does.
    pub kind: LocalKind,
    /// Its place.
    pub span: Span,
}

/// Statements of function bodies.
#[derive(Debug, Clone, PartialEq)]
pub enum LocalKind {
    /// `let`, `var`, `const`
    Let(Binding),
    /// `name := expr`
    Assign(Assign),
    /// `if .. elif .. else ..`
    If {
        /// Condition and block of `if` and of each `elif`.
        branches: Vec<(Expr, Vec<Local>)>,
        /// Block of `else`.
        otherwise: Option<Vec<Local>>,
    },
    /// `for v in iterable: block`
    For {
        /// Loop variable.
        var: Ident,
        /// Range, array, map or number.
        iterable: Expr,
        /// Body.
        body: Vec<Local>,
    },
    /// `while c: block`
    While {
        /// Condition.
        condition: Expr,
        /// Body.
        body: Vec<Local>,
    },
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `return [e]`
    Return(Option<Expr>),
    /// `emit T(n: e, ..)`
    Emit {
        /// Event type.
        ty: Ident,
        /// Fields.
        args: Vec<Arg>,
    },
    /// An expression; the last one is the function's result.
    Expr(Expr),
}

/// `stream S [: T] = source ops`
#[derive(Debug, Clone, PartialEq)]
pub struct StreamDecl {
    /// Name.
    pub name: Ident,
    /// Declared row type.
    pub ty: Option<TypeExpr>,
    /// Where rows come from, `->` steps included wherever they stand in the chain.
    pub source: Source,
    /// Dot operations in textual order.
    pub ops: Vec<Op>,
}

/// The beginning of a stream's chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its kind.
    pub kind: SourceKind,
    /// Its place.
    pub span: Span,
}

/// Kinds of sources.
#[allow(clippy::large_enum_variant, reason = "trees are small and built once")]
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// `E [as a] [where c]`: rows of an event type, stream, table or named pattern.
    Relation {
        /// Its name.
        name: Ident,
        /// Alias, usable in expressions.
        alias: Option<Ident>,
        /// Condition of a single step.
        condition: Option<Expr>,
    },
    /// Steps with `->`, `all`, quantifiers, groups, `not`; also `sequence(a: A, ..)`.
    Pattern(PatternExpr),
    /// `merge(A, stream S = B.where(..))`
    Merge(Vec<Input>),
    /// `join(A, B, ..)`, `left_join(A, B)`, ..
    Join {
        /// Which rows come out.
        kind: JoinKind,
        /// What is joined, in order.
        inputs: Vec<Input>,
    },
    /// `timer(5s [, initial_delay: 1s])`
    Timer(Vec<Arg>),
}

/// Kinds of joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// `join`: combinations only.
    Inner,
    /// `left_join`: also rows of the first without a partner.
    Left,
    /// `right_join`: also rows of the second without a partner.
    Right,
    /// `full_join`: also rows of either without a partner.
    Full,
    /// `semi_join`: rows of the first that have a partner.
    Semi,
    /// `anti_join`: rows of the first that have none.
    Anti,
    /// `asof_join`: rows of the first with the newest partner that is not later.
    AsOf,
}

impl JoinKind {
    /// All kinds.
    pub const ALL: [JoinKind; 7] = [
        JoinKind::Inner,
        JoinKind::Left,
        JoinKind::Right,
        JoinKind::Full,
        JoinKind::Semi,
        JoinKind::Anti,
        JoinKind::AsOf,
    ];

    /// The word that begins it.
    pub fn word(self) -> &'static str {
        match self {
            JoinKind::Inner => "join",
            JoinKind::Left => "left_join",
            JoinKind::Right => "right_join",
            JoinKind::Full => "full_join",
            JoinKind::Semi => "semi_join",
            JoinKind::Anti => "anti_join",
            JoinKind::AsOf => "asof_join",
        }
    }

    /// The kind that `word` begins.
    pub fn of_word(word: &str) -> Option<JoinKind> {
        JoinKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// One input of `merge` or `join`.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Label of `stream Label = E`.
    pub label: Option<Ident>,
    /// The relation.
    pub relation: Ident,
    /// Operations on this input only (`.where`, `.on`).
    pub ops: Vec<Op>,
    /// Its place.
    pub span: Span,
}

/// Part of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternExpr {
    /// Its kind.
    pub kind: PatternKind,
    /// Its place, without surrounding parentheses.
    pub span: Span,
}

/// The pattern algebra as written.
#[allow(clippy::large_enum_variant, reason = "trees are small and built once")]
#[derive(Debug, Clone, PartialEq)]
pub enum PatternKind {
    /// One event type, possibly repeated.
    Step(Step),
    /// `a -> b -> c`, `SEQ(a, b, c)`; at least two parts.
    Seq(Vec<PatternExpr>),
    /// All, in any order; at least two parts.
    And(Vec<PatternExpr>),
    /// One of them; at least two parts.
    Or(Vec<PatternExpr>),
    /// `not E [where c] [within d]`, `NOT ( .. )`
    Not {
        /// What must not come.
        inner: Box<PatternExpr>,
        /// Time limit, measured from the row before it.
        within: Option<Expr>,
    },
    /// `( .. ){n,m} [until c]`: a repeated group.
    Repeat {
        /// The group.
        inner: Box<PatternExpr>,
        /// How often.
        quantifier: Quantifier,
        /// Condition that closes the repetition.
        until: Option<Expr>,
    },
}

/// `[all] E [{n,m}] [as a] [where c] [until c] [within d]`
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Event type or stream.
    pub event: Ident,
    /// Repetition; `None` is exactly one.
    pub quantifier: Option<Quantifier>,
    /// Name of the bound row(s).
    pub alias: Option<Ident>,
    /// Condition of the step.
    pub condition: Option<Expr>,
    /// Condition that closes a repetition.
    pub until: Option<Expr>,
    /// Time limit of this step (`sequence(a: A, b: B.within(5s))`, `B within 5s`).
    pub within: Option<Expr>,
}

/// How often a step repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantifier {
    /// At least.
    pub min: u64,
    /// At most; `None` is without bound.
    pub max: Option<u64>,
    /// Place of `all`, `+`, `*`, `?` or `{n,m}`.
    pub span: Span,
}

/// `pattern P = expr [within d] [partition by k, ..]`
#[derive(Debug, Clone, PartialEq)]
pub struct PatternDecl {
    /// Name.
    pub name: Ident,
    /// The pattern.
    pub pattern: PatternExpr,
    /// Time limit.
    pub within: Option<Expr>,
    /// Keys.
    pub partition_by: Vec<Expr>,
}

/// One dot operation of a chain, `.name(..)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// Its name: known or not, the binder decides.
    pub name: Ident,
    /// Its arguments.
    pub args: OpArgs,
    /// From the dot to the closing parenthesis.
    pub span: Span,
}

/// Arguments of an operation.
#[derive(Debug, Clone, PartialEq)]
pub enum OpArgs {
    /// Positional and named arguments: every operation that is not listed below.
    Args(Vec<Arg>),
    /// `.emit [as T] (n: e, ..)`
    Emit {
        /// Event type or stream also appended to.
        ty: Option<Ident>,
        /// Fields.
        args: Vec<Arg>,
    },
    /// `.order_by(e [asc|desc], ..)`
    OrderBy(Vec<OrderKey>),
    /// `.not(E [where c])`: a single step or a group.
    Not(PatternExpr),
    /// `.fork(a: .where(..).emit(..), b: ..)`
    Fork(Vec<Branch>),
    /// `.pattern(p: x => .., q: A -> B or C)`
    Pattern {
        /// Its name.
        name: Ident,
        /// Sequence of event types; lambdas arrive as `Args`.
        pattern: PatternExpr,
    },
}

/// `e [asc|desc]`
#[derive(Debug, Clone, PartialEq)]
pub struct OrderKey {
    /// What to order by.
    pub expr: Expr,
    /// Greatest first.
    pub descending: bool,
}

/// A named branch of `.fork`.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// Its name.
    pub name: Ident,
    /// Its operations.
    pub ops: Vec<Op>,
}

/// `connector C = kind (k: v, ..)`
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorDecl {
    /// Name.
    pub name: Ident,
    /// `kafka`, `mqtt`, ..
    pub connector: Ident,
    /// Settings.
    pub args: Vec<Arg>,
}

/// `context c (cores: [0, 1])`
#[derive(Debug, Clone, PartialEq)]
pub struct ContextDecl {
    /// Name.
    pub name: Ident,
    /// Settings.
    pub args: Vec<Arg>,
}

/// `config c { k: v }`
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigDecl {
    /// Name; `None` in the block form.
    pub name: Option<Ident>,
    /// Settings.
    pub args: Vec<Arg>,
}

/// `import "path" [as x]`
#[derive(Debug, Clone, PartialEq)]
pub struct ImportDecl {
    /// Path as written, unescaped.
    pub path: String,
    /// Place of the path.
    pub path_span: Span,
    /// Alias.
    pub alias: Option<Ident>,
}

/// `e` or `name: e`
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// Name, when named.
    pub name: Option<Ident>,
    /// Value.
    pub value: Expr,
    /// Name and value.
    pub span: Span,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// Its kind.
    pub kind: ExprKind,
    /// Its place.
    pub span: Span,
}

/// Kinds of expressions.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// `1_000`
    Int(i64),
    /// `.5`, `1e5`
    Float(f64),
    /// Text without quotes, escapes resolved.
    Str(String),
    /// `1h30m`, in nanoseconds; a day is 24 hours, a week 7 days.
    Duration(i64),
    /// `@2024-01-31T12:00:00.5+02:00`, microseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
    /// A field, alias, variable or word argument.
    Name(String),
    /// `[a, b]`
    Array(Vec<Expr>),
    /// `{k: v, "s": v}`
    Map(Vec<(Ident, Expr)>),
    /// `base.name`, `base?.name`
    Field {
        /// Left of the dot.
        base: Box<Expr>,
        /// Right of the dot.
        name: Ident,
        /// Written with `?.`.
        optional: bool,
    },
    /// `base[i]`
    Index {
        /// Array, text or map.
        base: Box<Expr>,
        /// Position or key.
        index: Box<Expr>,
    },
    /// `base[from:to]`
    Slice {
        /// Array or text.
        base: Box<Expr>,
        /// First position, 0 when absent.
        from: Option<Box<Expr>>,
        /// One past the last position, the end when absent.
        to: Option<Box<Expr>>,
    },
    /// `f(args)`
    Call {
        /// The function.
        function: Ident,
        /// Its arguments.
        args: Vec<Arg>,
    },
    /// `base.f(args)`, `base?.f(args)`
    Method {
        /// Left of the dot.
        base: Box<Expr>,
        /// The method.
        name: Ident,
        /// Its arguments.
        args: Vec<Arg>,
        /// Written with `?.`.
        optional: bool,
    },
    /// `agg(..) filter (where c)`
    Filter {
        /// The aggregate call.
        call: Box<Expr>,
        /// Rows it takes.
        condition: Box<Expr>,
    },
    /// `-x`, `not x`, `~x`
    Unary {
        /// Which.
        op: UnaryOp,
        /// Of what.
        operand: Box<Expr>,
    },
    /// `a + b`
    Binary {
        /// Which.
        op: BinaryOp,
        /// Left side.
        left: Box<Expr>,
        /// Right side.
        right: Box<Expr>,
    },
    /// `x is [not] null`
    IsNull {
        /// What is asked about.
        operand: Box<Expr>,
        /// With `not`.
        negated: bool,
    },
    /// `x [not] in xs`
    In {
        /// The element.
        operand: Box<Expr>,
        /// Array, map or text.
        container: Box<Expr>,
        /// With `not`.
        negated: bool,
    },
    /// `a..b`, `a..=b`
    Range {
        /// First.
        from: Box<Expr>,
        /// End.
        to: Box<Expr>,
        /// With `..=`.
        inclusive: bool,
    },
    /// `if c then a else b`
    If {
        /// Condition.
        condition: Box<Expr>,
        /// When true.
        then: Box<Expr>,
        /// When false or null.
        otherwise: Box<Expr>,
    },
    /// `match x { 1 | 2 => a, n if n > 9 => b, _ => c }`
    Match {
        /// What is looked at.
        subject: Box<Expr>,
        /// Arms in order.
        arms: Vec<MatchArm>,
    },
    /// `x => e`, `(a, b) => { let c = a; c + b }`
    Lambda {
        /// Parameters.
        params: Vec<Ident>,
        /// Bindings of a block body, in order.
        bindings: Vec<Binding>,
        /// Result.
        body: Box<Expr>,
    },
}

/// Arm of `match`.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchArm {
    /// Alternatives.
    pub patterns: Vec<MatchPattern>,
    /// `if` guard.
    pub guard: Option<Expr>,
    /// Result.
    pub value: Expr,
    /// The arm.
    pub span: Span,
}

/// Pattern of a `match` arm.
#[derive(Debug, Clone, PartialEq)]
pub enum MatchPattern {
    /// `_` (also written `else`)
    Any(Span),
    /// A name that is bound to the subject.
    Bind(Ident),
    /// A literal, a negative number or a range of literals.
    Value(Expr),
}

/// Operators with one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `not`
    Not,
    /// `~`
    BitNot,
}

/// Operators with two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "`symbol` shows each")]
pub enum BinaryOp {
    Or,
    And,
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
    Coalesce,
    BitOr,
    BitXor,
    BitAnd,
    ShiftLeft,
    ShiftRight,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}

impl BinaryOp {
    /// The operator as written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Or => "or",
            BinaryOp::And => "and",
            BinaryOp::Eq => "==",
            BinaryOp::NotEq => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::LtEq => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::GtEq => ">=",
            BinaryOp::Coalesce => "??",
            BinaryOp::BitOr => "|",
            BinaryOp::BitXor => "^",
            BinaryOp::BitAnd => "&",
            BinaryOp::ShiftLeft => "<<",
            BinaryOp::ShiftRight => ">>",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
            BinaryOp::Pow => "**",
        }
    }
}
