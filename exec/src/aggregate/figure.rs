//! What is read from a state.

/// A number (or list, or text) that an [`super::Accumulator`] can tell about a slot. Over no rows
/// counts are 0, lists empty, the others null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// Number of values that are not null.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Avg,
    /// The smallest.
    Min,
    /// The greatest.
    Max,
    /// A number about one column or two, from its moments.
    Moment(Moment),
    /// The value that a share of the values (0 to 1) lies below, interpolated linearly.
    Percentile(f64),
    /// Whether all values are true.
    All,
    /// Whether some value is true.
    Any,
    /// The only value that is kept.
    Value,
    /// The values in order.
    List,
    /// Texts in order, each but the first behind its separator.
    Text,
    /// The value at a place in the order, counted from 1.
    Nth(u64),
    /// The exponential moving average of so many rows, in order.
    Ema(u64),
    /// What DataFusion's accumulator says.
    Foreign,
}

/// Statistics of x alone, or of pairs (y, x) both of which are not null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Variance of the sample; null for fewer than two values.
    VarSamp,
    /// Variance of the population.
    VarPop,
    /// Root of the sample's variance.
    StddevSamp,
    /// Root of the population's variance.
    StddevPop,
    /// Pearson's correlation; null when one side does not vary.
    Corr,
    /// Covariance of the sample; null for fewer than two pairs.
    CovarSamp,
    /// Covariance of the population.
    CovarPop,
    /// Slope of the least-squares line; null when x does not vary.
    Slope,
    /// Its value at x = 0.
    Intercept,
    /// Its coefficient of determination; 1 when y does not vary, null when x does not.
    R2,
    /// Number of pairs.
    Pairs,
    /// Mean of x.
    AvgX,
    /// Mean of y.
    AvgY,
    /// Sum of squared differences of x from its mean.
    Sxx,
    /// The same of y.
    Syy,
    /// Sum of the products of both differences.
    Sxy,
}
