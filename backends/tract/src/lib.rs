//! convkernels-tract
