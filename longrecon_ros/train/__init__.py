"""Training of small networks on synthetic rooms; imports nothing.

    rooms       random rooms, and a closed track through each
    data        their laps filmed once, and sequences drawn from them
    variants    sizes, and the four memories that are compared
    stream      a net run over sequences;  windows: where windows lie
    losses      poses relative to each other, points, confidence
    loop        optimisation with checkpoints that can be resumed
    evaluate    errors on sequences far longer than those trained on
    ablation    the four variants over several seeds, as a table
    shipped     weights as files, and those that come with the package
"""
