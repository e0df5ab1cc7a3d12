//! convkernels-c
