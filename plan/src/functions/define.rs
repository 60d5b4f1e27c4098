//! How one scalar function is defined: a name and three plain functions over types and arrays.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Argument types as given to argument types as needed, or an error that says what fits.
pub(super) type Coerce = fn(&[DataType]) -> Result<Vec<DataType>>;
/// Argument types to result type.
pub(super) type Returns = fn(&[DataType]) -> Result<DataType>;
/// Arguments of equal length to the result of that length.
pub(super) type Call = fn(&[ArrayRef]) -> Result<ArrayRef>;

/// An immutable function of its arguments, evaluated over whole arrays.
#[derive(Debug)]
struct Function {
    name: &'static str,
    signature: Signature,
    coerce: Coerce,
    returns: Returns,
    call: Call,
}

// The name identifies the function: the registry holds each name once.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// Makes the function that DataFusion calls.
pub(super) fn function(
    name: &'static str,
    coerce: Coerce,
    returns: Returns,
    call: Call,
) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Function { name, signature, coerce, returns, call }))
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        (self.returns)(arg_types)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        (self.coerce)(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // With scalars only, one row is computed and stands for all.
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result = (self.call)(&arrays)?;
        if constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// Checks the number of arguments.
pub(super) fn arity(name: &str, types: &[DataType], n: usize) -> Result<()> {
    if types.len() == n {
        return Ok(());
    }
    plan_err!("{name} takes {n} argument{}, not {}", if n == 1 { "" } else { "s" }, types.len())
}

/// The item type of a list, or an error.
pub(super) fn item_type(name: &str, list: &DataType) -> Result<DataType> {
    match list {
        DataType::List(field) => Ok(field.data_type().clone()),
        other => plan_err!("{name} takes an array, not {other}"),
    }
}

/// Key and value type of a map, or an error.
pub(super) fn entry_types(name: &str, map: &DataType) -> Result<(DataType, DataType)> {
    if let DataType::Map(entries, _) = map
        && let DataType::Struct(fields) = entries.data_type()
        && fields.len() == 2
    {
        return Ok((fields[0].data_type().clone(), fields[1].data_type().clone()));
    }
    plan_err!("{name} takes a map, not {map}")
}
