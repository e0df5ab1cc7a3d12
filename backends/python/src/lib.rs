//! convkernels-python
