//! Pairs of products with a norm between them, in two launches of `product.cu`.

use burn::tensor::{DType, Shape};
use cubecl::cuda::CudaRuntime;

use super::launch::Argument;
use super::product::{Work, rows};
use super::{Queue, Tensor};
use crate::kernels::native::NormBetween;
use crate::kernels::tensors::extents;

/// Both products of a pair in two launches: the first one leaves its rows as the second one reads them. `None` where the kernel
/// takes only one of them.
pub fn pair(request: &NormBetween<'_, CudaRuntime>) -> Option<[Tensor; 2]> {
    let x = request.x;
    let (tokens, columns) = extents(x);
    let width = request.first.out_features();
    let first = Work::new(request.first, (tokens, columns), DType::F32, &x.device)?;
    let second = Work::new(request.second, (tokens, width), request.dtype, &x.device)?;
    if !(first.takes_norms() && second.takes_norms()) {
        return None;
    }
    let between = Between::new(x, &first, (tokens, width));
    let behind = Norms {
        behind: Some((request.weight, &between)),
        before: None,
    };
    let sum = first.launch(&rows(x)?, &behind)?;
    let before = Norms {
        before: Some((&between, request.epsilon)),
        behind: None,
    };
    Some([sum, second.launch(&between.rows, &before)?])
}

/// What one product leaves to another for the norm between them.
struct Between {
    /// Its results times the norm's weight, bf16. Behind them, in the same buffer, lie the sums of its results' squares, f32
    /// `[parts, room]`: as a small buffer of their own they could share their memory with the flow's state, and a recorded graph goes on
    /// writing to it.
    rows: Tensor,
    parts: usize,
}

impl Between {
    fn new(beside: &Tensor, first: &Work<'_>, (tokens, width): (usize, usize)) -> Self {
        let parts = first.cut.tiles(first.product.weight.rows);
        let bytes = 2 * tokens * width + 4 * parts * first.variant.room;
        let (client, device) = (beside.client.clone(), beside.device.clone());
        let handle = client.empty(bytes);
        Self {
            rows: Tensor::new_contiguous(client, device, Shape::new([tokens, width]), handle, DType::BF16),
            parts,
        }
    }

    /// The addresses of the rows and of the sums.
    fn addresses(&self, queue: &Queue<'_>) -> Option<[Argument; 2]> {
        let rows = queue.address(&self.rows.handle)?;
        let squares = rows + 2 * self.rows.meta.num_elements() as u64;
        Some([rows, squares].map(Argument::Address))
    }
}

/// What stands for the norms in front of a product and behind it.
#[derive(Default)]
pub(super) struct Norms<'a> {
    /// What the product in front left, and what the norm adds to the mean square.
    before: Option<(&'a Between, f64)>,
    /// The norm's weight, and what this product leaves.
    behind: Option<(&'a Tensor, &'a Between)>,
}

impl Norms<'_> {
    /// The last arguments of a launch.
    pub(super) fn arguments(&self, queue: &Queue<'_>) -> Option<[Argument; 6]> {
        let none = || Argument::Address(0);
        let [squares, parts, epsilon] = match self.before {
            Some((between, epsilon)) => {
                let [_, squares] = between.addresses(queue)?;
                [squares, Argument::int(between.parts)?, Argument::Float(epsilon as f32)]
            }
            None => [none(), Argument::Int(0), Argument::Float(0.0)],
        };
        let [weight, rows, sums] = match self.behind {
            Some((weight, between)) => {
                let [rows, sums] = between.addresses(queue)?;
                [queue.argument(&weight.handle)?, rows, sums]
            }
            None => [none(), none(), none()],
        };
        Some([squares, parts, epsilon, weight, rows, sums])
    }
}
