//! convkernels-candle
