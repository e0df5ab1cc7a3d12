//! convkernels-ndarray
