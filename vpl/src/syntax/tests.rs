//! Tests of the parser: programs that are read, texts that are refused, precedence, spans.

use std::path::{Path, PathBuf};

use super::*;
use crate::ast::*;

/// All `.vpl` files below `tests/<folder>`, with their texts.
pub(crate) fn programs(folder: &str) -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|e| e == "vpl") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder), &mut found);
    found.sort();
    assert!(!found.is_empty(), "no programs below tests/{folder}");
    found
}

#[test]
fn every_program_is_read_without_a_word() {
    for (path, text) in programs("programs") {
        let parsed = parse(&text);
        assert_eq!(parsed.diagnostics, [], "{}", path.display());
        assert!(!parsed.program.statements.is_empty(), "{}", path.display());
    }
}

/// Files of `tests/refused` end with lines `#! code line:column word..`, one for each diagnostic in
/// order; the words must occur in its message or hint.
#[test]
fn refusals_have_code_place_and_words() {
    let mut wrong = Vec::new();
    for (path, text) in programs("refused") {
        let name = path.display();
        let expected: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("#! ")).collect();
        let diagnostics = parse(&text).diagnostics;
        let shown: Vec<String> = diagnostics
            .iter()
            .map(|d| {
                let (line, column) = d.span.unwrap().line_column(&text);
                format!(
                    "{} {line}:{column} {} | {}",
                    d.code.unwrap(),
                    d.message,
                    d.hint.as_deref().unwrap_or("")
                )
            })
            .collect();
        if shown.len() != expected.len() {
            wrong.push(format!("{name}: {} expected, got {shown:#?}", expected.len()));
            continue;
        }
        for (shown, expected) in shown.iter().zip(expected) {
            let mut parts = expected.splitn(3, ' ');
            let head = format!("{} {} ", parts.next().unwrap(), parts.next().unwrap());
            let mut words = parts.next().unwrap_or("").split(' ');
            if !shown.starts_with(&head) || !words.all(|word| shown.contains(word)) {
                wrong.push(format!("{name}: expected {expected}, got {shown}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The expression with a parenthesis around everything that has parts.
fn shape(expr: &Expr) -> String {
    let list = |parts: Vec<String>| parts.join(" ");
    let args = |args: &[Arg]| {
        let arg = |a: &Arg| match &a.name {
            Some(name) => format!("{}:{}", name.name, shape(&a.value)),
            None => shape(&a.value),
        };
        list(args.iter().map(arg).collect())
    };
    match &expr.kind {
        ExprKind::Null => "null".into(),
        ExprKind::Bool(b) => b.to_string(),
        ExprKind::Int(n) => n.to_string(),
        ExprKind::Float(n) => format!("{n:?}"),
        ExprKind::Str(s) => format!("{s:?}"),
        ExprKind::Duration(n) => format!("{n}ns"),
        ExprKind::Timestamp(n) => format!("@{n}"),
        ExprKind::Name(name) => name.clone(),
        ExprKind::Array(items) => format!("[{}]", list(items.iter().map(shape).collect())),
        ExprKind::Map(entries) => {
            let entry = |(k, v): &(Ident, Expr)| format!("{}:{}", k.name, shape(v));
            format!("{{{}}}", list(entries.iter().map(entry).collect()))
        }
        ExprKind::Field { base, name, optional } => {
            format!("({}{}{})", shape(base), if *optional { "?." } else { "." }, name.name)
        }
        ExprKind::Index { base, index } => format!("({}[{}])", shape(base), shape(index)),
        ExprKind::Slice { base, from, to } => {
            let end = |e: &Option<Box<Expr>>| e.as_deref().map_or(String::new(), shape);
            format!("({}[{}:{}])", shape(base), end(from), end(to))
        }
        ExprKind::Call { function, args: a } => format!("{}({})", function.name, args(a)),
        ExprKind::Method { base, name, args: a, .. } => {
            format!("({}.{}({}))", shape(base), name.name, args(a))
        }
        ExprKind::Filter { call, condition } => {
            format!("(filter {} {})", shape(call), shape(condition))
        }
        ExprKind::Unary { op, operand } => format!("({op:?} {})", shape(operand)),
        ExprKind::Binary { op, left, right } => {
            format!("({} {} {})", shape(left), op.symbol(), shape(right))
        }
        ExprKind::IsNull { operand, negated } => {
            format!("({} is{} null)", shape(operand), if *negated { " not" } else { "" })
        }
        ExprKind::In { operand, container, negated } => {
            let not = if *negated { " not" } else { "" };
            format!("({}{not} in {})", shape(operand), shape(container))
        }
        ExprKind::Range { from, to, inclusive } => {
            format!("({}{}{})", shape(from), if *inclusive { "..=" } else { ".." }, shape(to))
        }
        ExprKind::If { condition, then, otherwise } => {
            format!("(if {} {} {})", shape(condition), shape(then), shape(otherwise))
        }
        ExprKind::Match { subject, arms } => {
            let arm = |a: &MatchArm| {
                let pattern = |p: &MatchPattern| match p {
                    MatchPattern::Any(_) => "_".into(),
                    MatchPattern::Bind(name) => name.name.clone(),
                    MatchPattern::Value(value) => shape(value),
                };
                let patterns: Vec<String> = a.patterns.iter().map(pattern).collect();
                let guard = a.guard.as_ref().map_or(String::new(), |g| format!(" if {}", shape(g)));
                format!("{}{guard}=>{}", patterns.join("|"), shape(&a.value))
            };
            format!("(match {} {})", shape(subject), list(arms.iter().map(arm).collect()))
        }
        ExprKind::Lambda { params, bindings, body } => {
            let names: Vec<&str> = params.iter().map(|p| p.name.as_str()).collect();
            let bound: String =
                bindings.iter().map(|b| format!("{}={}; ", b.name.name, shape(&b.value))).collect();
            format!("(\\{} {bound}{})", names.join(","), shape(body))
        }
    }
}

fn expression(text: &str) -> String {
    let parsed = parse(&format!("let x = {text}"));
    match parsed.program.statements.as_slice() {
        [Statement { kind: StatementKind::Let(binding), .. }] => shape(&binding.value),
        _ => parsed.diagnostics.iter().map(|d| d.message.clone()).collect(),
    }
}

#[test]
fn operators_bind_as_documented() {
    for (text, expected) in [
        ("1 + 2 * 3 - 4", "((1 + (2 * 3)) - 4)"),
        ("-2 ** 2", "((Neg 2) ** 2)"),
        ("2 ** 3 ** 2", "(2 ** (3 ** 2))"),
        ("2 ** -1", "(2 ** (Neg 1))"),
        ("not a == b and c or d", "(((Not (a == b)) and c) or d)"),
        ("not not a", "(Not (Not a))"),
        ("a ?? b ?? 0 > 5", "((a ?? (b ?? 0)) > 5)"),
        ("a ?? 0 + 1", "(a ?? (0 + 1))"),
        ("1 | 2 ^ 3 & 4 << 1", "(1 | (2 ^ (3 & (4 << 1))))"),
        ("~a >> 2", "((BitNot a) >> 2)"),
        ("x not in [1, 2] and y in ys", "((x not in [1 2]) and (y in ys))"),
        ("x is not null or y is null", "((x is not null) or (y is null))"),
        ("not (x > 5)", "(Not (x > 5))"),
        ("0..n + 1", "(0..(n + 1))"),
        ("0..=3", "(0..=3)"),
        ("a.b?.c[0][1:-1][:2][1:]", "((((((a.b)?.c)[0])[1:(Neg 1)])[:2])[1:])"),
        ("if a then b else if c then d else e + 1", "(if a b (if c d (e + 1)))"),
        (
            "xs.map(x => x * 2).filter((a, b) => a > b)",
            "((xs.map((\\x (x * 2)))).filter((\\a,b (a > b))))",
        ),
        ("map(xs, x => { let y = x + 1; y * y })", "map(xs (\\x y=(x + 1); (y * y)))"),
        ("x => {a: 1}", "(\\x {a:1})"),
        ("x => { x + 1 }", "(\\x (x + 1))"),
        ("() => 1", "(\\ 1)"),
        ("f(1, n: 2,)", "f(1 n:2)"),
        ("{a: 1, \"b c\": [],}", "{a:1 b c:[]}"),
        (
            "count(distinct(x)) filter (where y > 1) / 2",
            "((filter count(distinct(x)) (y > 1)) / 2)",
        ),
        (
            "match x { 1 | 2 => \"a\", 3..=5 => \"b\", -1 => \"m\", n if n > 9 => \"c\", _ => \"d\", }",
            "(match x 1|2=>\"a\" (3..=5)=>\"b\" (Neg 1)=>\"m\" n if (n > 9)=>\"c\" _=>\"d\")",
        ),
        ("match + 1", "(match + 1)"),
        ("match and filter", "(match and filter)"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807", "9223372036854775807"),
        ("1h30m + 500ms", "(5400000000000ns + 500000000ns)"),
        ("@1970-01-01T00:00:01Z", "@1000000"),
        ("'it''s' ", "expected the end of the statement or an operator, found `'s'`"),
        ("'a\"b' + \"c'd\"", "(\"a\\\"b\" + \"c'd\")"),
        ("\"\"\"two\nlines \"quoted\" \"\"\"", "\"two\\nlines \\\"quoted\\\" \""),
        (
            "notes == 1 and true_count > 0 or order_id in [7]",
            "(((notes == 1) and (true_count > 0)) or (order_id in [7]))",
        ),
        ("island and nothing ?? isnt", "(island and (nothing ?? isnt))"),
        ("a < b < c", "comparisons cannot be chained"),
        ("a + not b", "`not` needs parentheses here"),
        ("(a < b) == c", "((a < b) == c)"),
        (".5 + 1e5 - 1_000.5e-3", "((0.5 + 100000.0) - 1.0005)"),
    ] {
        assert_eq!(expression(text), expected, "{text}");
    }
}

fn stream(text: &str) -> StreamDecl {
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    match parsed.program.statements.into_iter().next() {
        Some(Statement { kind: StatementKind::Stream(stream), .. }) => stream,
        other => panic!("{text}: {other:?}"),
    }
}

fn pattern(p: &PatternExpr) -> String {
    let join = |parts: &[PatternExpr], by: &str| {
        format!("({})", parts.iter().map(pattern).collect::<Vec<_>>().join(by))
    };
    let quantity = |q: &Quantifier| format!("{{{},{:?}}}", q.min, q.max);
    let opt = |word: &str, e: &Option<Expr>| {
        e.as_ref().map_or(String::new(), |e| format!(" {word} {}", shape(e)))
    };
    match &p.kind {
        PatternKind::Step(s) => format!(
            "{}{}{}{}{}{}",
            s.event.name,
            s.quantifier.as_ref().map_or(String::new(), quantity),
            s.alias.as_ref().map_or(String::new(), |a| format!(" as {}", a.name)),
            opt("where", &s.condition),
            opt("until", &s.until),
            opt("within", &s.within),
        ),
        PatternKind::Seq(parts) => join(parts, " -> "),
        PatternKind::And(parts) => join(parts, " and "),
        PatternKind::Or(parts) => join(parts, " or "),
        PatternKind::Not { inner, within } => {
            format!("!{}{}", pattern(inner), opt("within", within))
        }
        PatternKind::Repeat { inner, quantifier, until } => {
            format!("{}{}{}", pattern(inner), quantity(quantifier), opt("until", until))
        }
    }
}

#[test]
fn patterns_have_the_written_structure() {
    for (text, expected) in [
        ("A as a -> all B where v > 1 as b -> C", "(A -> B{1,None} -> C)"),
        ("A as a -> B as b where b.v > a.v", "(A as a -> B as b where ((b.v) > (a.v)))"),
        (
            "A -> B{2,} as b -> C{0,3} -> D?",
            "(A -> B{2,None} as b -> C{0,Some(3)} -> D{0,Some(1)})",
        ),
        ("A -> (B as b or C as c)", "(A -> (B as b or C as c))"),
        (
            "A -> (B as b where b.x > 1 or C as c where c.y)",
            "(A -> (B as b where ((b.x) > 1) or C as c where (c.y)))",
        ),
        ("A -> not B where n > b.n within 30s", "(A -> !B where (n > (b.n)) within 30000000000ns)"),
        ("A -> all B as b until b.v > 3 -> C", "(A -> B{1,None} as b until ((b.v) > 3) -> C)"),
        ("A -> (B -> C){2} -> D", "(A -> (B -> C){2,Some(2)} -> D)"),
        ("A .where(x > 1) -> B .within(5m)", "(A -> B)"),
        ("A where p == 'x' and q .within(1m) -> B", "(A where ((p == \"x\") and q) -> B)"),
        (
            "sequence(a: A, b: B where x == a.x, c: C.within(5s))",
            "(A as a -> B as b where (x == (a.x)) -> C as c within 5000000000ns)",
        ),
    ] {
        let stream = stream(&format!("stream S = {text}"));
        let SourceKind::Pattern(p) = &stream.source.kind else { panic!("{text}: {stream:?}") };
        let shown = pattern(p);
        // The first case only shows the skeleton.
        let shown = if text.starts_with("A as a -> all") {
            shown.replace(" as a", "").replace(" as b where (v > 1)", "")
        } else {
            shown
        };
        assert_eq!(shown, expected, "{text}");
    }
}

#[test]
fn named_patterns_keep_their_own_limit() {
    let parsed = parse(
        "pattern P = SEQ(A where not ok as a, B+ as b, NOT C, D?) AND E within 10m partition by user, host",
    );
    assert_eq!(parsed.diagnostics, []);
    let StatementKind::Pattern(decl) = &parsed.program.statements[0].kind else { panic!() };
    assert_eq!(
        pattern(&decl.pattern),
        "((A as a where (Not ok) -> B{1,None} as b -> !C -> D{0,Some(1)}) and E)"
    );
    assert_eq!(decl.within.as_ref().map(shape).as_deref(), Some("600000000000ns"));
    assert_eq!(decl.partition_by.len(), 2);
}

#[test]
fn single_step_without_repetition_is_a_relation() {
    for text in ["stream S = A", "stream S = A as a where a.x > 1 .emit(x: x)", "stream S: T = all"]
    {
        assert!(matches!(stream(text).source.kind, SourceKind::Relation { .. }), "{text}");
    }
}

#[test]
fn operations_keep_order_names_and_arguments() {
    let s = stream(
        "stream S = merge(A, stream L = B.where(x > 1),)\n.partition_by(a, b)\n  .window(5m, sliding: 1m)\n    .order_by(v desc, w)
        .not(C where k == 1).emit as T (x: 1, y,).fork(hot: .where(t > 1).emit(), cold: .first())
        .pattern(p: A -> B or not C).pattern(q: es => es.len() > 1).aggregate(n: count(), emit: changes)",
    );
    let names: Vec<&str> = s.ops.iter().map(|op| op.name.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "partition_by",
            "window",
            "order_by",
            "not",
            "emit",
            "fork",
            "pattern",
            "pattern",
            "aggregate"
        ]
    );
    assert!(
        matches!(&s.ops[2].args, OpArgs::OrderBy(keys) if keys[0].descending && !keys[1].descending)
    );
    assert!(
        matches!(&s.ops[4].args, OpArgs::Emit { ty: Some(t), args } if t.name == "T" && args.len() == 2)
    );
    assert!(
        matches!(&s.ops[5].args, OpArgs::Fork(branches) if branches.len() == 2 && branches[0].ops.len() == 2)
    );
    assert!(matches!(&s.ops[6].args, OpArgs::Pattern { .. }));
    assert!(matches!(&s.ops[7].args, OpArgs::Args(_)));
    assert!(
        matches!(&s.source.kind, SourceKind::Merge(inputs) if inputs[1].label.is_some() && inputs[1].ops.len() == 1)
    );
}

#[test]
fn spans_point_into_the_original_text() {
    let text = "# é comment\nevent T:  # fields\n    é: int\n";
    assert_eq!(parse(text).diagnostics[0].span.unwrap().line_column(text), (3, 5));
    let text = "/* x */ fn f(a: int): # c\n  let b = a // d\n  b + /* e */ a\nstream S = T .emit( v: f( w ) )\n";
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, []);
    let StatementKind::Fn(f) = &parsed.program.statements[0].kind else { panic!() };
    let at = |span: Span| &text[span.start..span.end];
    assert_eq!(at(f.body[0].span), "let b = a");
    assert_eq!(at(f.body[1].span), "b + /* e */ a");
    let StatementKind::Stream(s) = &parsed.program.statements[1].kind else { panic!() };
    assert_eq!(at(s.ops[0].span), ".emit( v: f( w ) )");
    assert_eq!(at(s.source.span), "T");
    assert_eq!(at(parsed.program.statements[1].span), "stream S = T .emit( v: f( w ) )");
}

#[test]
fn top_level_for_repeats_its_body_and_points_into_it() {
    let text = "for z in 0..=1:\n    for k in 0..2:\n        stream S{z}_{k} = T.where(x == {z}).emit(n: \"{z}/{k}\")\nstream Last = T\n";
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, []);
    let names: Vec<&str> = parsed
        .program
        .statements
        .iter()
        .map(|s| match &s.kind {
            StatementKind::Stream(stream) => stream.name.name.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["S0_0", "S0_1", "S1_0", "S1_1", "Last"]);
    for statement in &parsed.program.statements[..4] {
        assert_eq!(statement.span.line_column(text), (3, 9));
    }
}

#[test]
fn blocks_may_stand_on_one_line_and_hold_comments() {
    let text = "event A: x: int, y: str?\nevent B:\n    # first\n    x: int\n\n    y: {str: [int]}?  # last\nfn f(x: int) -> int: x * 2\nfn g(n: int):\n    for i in 0..n:\n        if i > 2: break\n        elif i == 1:  # why\n            continue\n        else:\n            emit A(x: i, y: \"a\")\n    while true: return\nconfig:\n    a: 1,\n    b: \"c\"\nconfig d { e: 5s, f: [1, 2] }\n";
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, []);
    assert_eq!(parsed.program.statements.len(), 6);
    let StatementKind::Fn(g) = &parsed.program.statements[3].kind else { panic!() };
    assert_eq!(g.body.len(), 2);
    let LocalKind::For { body, .. } = &g.body[0].kind else { panic!() };
    assert!(
        matches!(&body[0].kind, LocalKind::If { branches, otherwise: Some(_) } if branches.len() == 2)
    );
}

#[test]
fn statements_end_at_semicolons_and_at_new_declarations() {
    let text = "let a = 1; let b = 2;\nvar c: float = 3\nc := a\ntype Price = float\ncontext hot (cores: [0, 1])\nconnector K = kafka (brokers: [\"a:1\", \"b:2\"], topic: \"t\",)\nimport \"lib.vpl\" as lib\nstream S = K_in\n.where(x >\n1)\nstream Q = T.from(K, topic: \"t\").to(K)\n";
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, []);
    assert_eq!(parsed.program.statements.len(), 10);
}

#[test]
fn raw_vpl_is_told_from_sql() {
    for vpl in [
        "stream S = T.where(x > 1)",
        "# comment\nevent T:\n  x: int",
        "let x = 1",
        "const L: int = 3;",
        "fn f(x: int) -> int:\n    x",
        "pattern P = SEQ(A, B)",
        "type P = float",
        "for i in 0..3:\n    stream S{i} = T",
        "event T { v: int }",
        "import 'x.vpl'",
    ] {
        assert!(looks_like_vpl(vpl), "{vpl}");
    }
    for sql in [
        "SELECT 1",
        "CREATE STREAM s (x int)",
        "stream",
        "INSERT INTO event VALUES (1)",
        "LISTEN stream",
        "SET x = 1",
        "LET me in",
        "DECLARE c CURSOR FOR SELECT 1",
        "FOR x",
        "EXPLAIN SELECT",
        "",
    ] {
        assert!(!looks_like_vpl(sql), "{sql}");
    }
}
