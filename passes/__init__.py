"""Graph passes: name to "module:class". Third parties add theirs with the entry-point group `qcompiler.passes`."""

if __name__ != "qcompiler.passes":
    raise ImportError("import qcompiler.passes; the folder passes/ is not a package of its own")

TABLE: dict[str, str] = {
    "carry-float16": "qcompiler.passes.precision.carry_float16:CarryFloat16",
    "carry-float32": "qcompiler.passes.precision.carry_float32:CarryFloat32",
    "insert-qdq": "qcompiler.passes.quant.insert_qdq:InsertQdq",
    "quantize-weights": "qcompiler.passes.quant.quantize_weights:QuantizeWeights",
    "correct-biases": "qcompiler.passes.quant.correct_biases:CorrectBiases",
    "fold-affine": "qcompiler.passes.fold.fold_affine:FoldAffine",
    "fold-shift-scale": "qcompiler.passes.equalize.fold_shift_scale:FoldShiftScale",
    "rotate-residual": "qcompiler.passes.rotate.rotate_residual:RotateResidual",
    "rotate-heads": "qcompiler.passes.rotate.rotate_heads:RotateHeads",
    "rotate-down": "qcompiler.passes.rotate.rotate_down:RotateDown",
    "rotate-scores": "qcompiler.passes.rotate.rotate_scores:RotateScores",
    "fold-batch-norm": "qcompiler.passes.fold.fold_batch_norm:FoldBatchNorm",
    "sum-to-add": "qcompiler.passes.canonical.sum_to_add:SumToAdd",
    "recognise-norms": "qcompiler.passes.canonical.recognise_norms:RecogniseNorms",
    "recognise-activations": "qcompiler.passes.canonical.recognise_activations:RecogniseActivations",
    "recognise-attention": "qcompiler.passes.canonical.recognise_attention:RecogniseAttention",
    "recognise-rotary": "qcompiler.passes.canonical.recognise_rotary:RecogniseRotary",
    "convert-opset": "qcompiler.passes.normalize.convert_opset:ConvertOpset",
    "expand-operators": "qcompiler.passes.normalize.expand_operators:ExpandOperators",
    "fold-constants": "qcompiler.passes.normalize.fold_constants:FoldConstants",
    "infer-shapes": "qcompiler.passes.normalize.infer_shapes:InferShapes",
    "inline-functions": "qcompiler.passes.normalize.inline_functions:InlineFunctions",
    "lift-constants": "qcompiler.passes.normalize.lift_constants:LiftConstants",
    "name-everything": "qcompiler.passes.normalize.name_everything:NameEverything",
    "drop-no-ops": "qcompiler.passes.cleanup.drop_no_ops:DropNoOps",
    "drop-unused": "qcompiler.passes.cleanup.drop_unused:DropUnused",
    "merge-equal-nodes": "qcompiler.passes.cleanup.merge_equal_nodes:MergeEqualNodes",
    "settle-shapes": "qcompiler.passes.normalize.settle_shapes:SettleShapes",
    "plain-gemm": "qcompiler.passes.normalize.plain_gemm:PlainGemm",
    "sort-nodes": "qcompiler.passes.cleanup.sort_nodes:SortNodes",
}
