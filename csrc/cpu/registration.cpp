// The native operators, for tensors on the CPU. Called by fastclip/backends/cpu.py, which documents
// the arguments; the public operators are fastclip::*, registered in fastclip/ops.
#include <torch/library.h>

#include "clip_loss.h"
#include "contrastive_lse.h"
#include "siglip_sum.h"

// Of every device and layout, so that those which they cannot take are refused in their own words.
TORCH_LIBRARY_IMPL(fastclip_native, CompositeExplicitAutograd, m) {
  m.impl("contrastive_lse", fastclip::cpu::contrastive_lse);
  m.impl("contrastive_lse_backward", fastclip::cpu::contrastive_lse_backward);
  m.impl("siglip_sum", fastclip::cpu::siglip_sum);
  m.impl("siglip_sum_backward", fastclip::cpu::siglip_sum_backward);
}

// Brings its own gradient.
TORCH_LIBRARY_IMPL(fastclip_native, CompositeImplicitAutograd, m) {
  m.impl("clip_loss", fastclip::cpu::clip_loss);
}
