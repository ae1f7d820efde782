//! scratch
use ivon_lora::model::Matrix;
fn main() {
    for (m, k, n) in [(512, 1024, 1024), (2048, 2048, 2048), (265, 576, 1536), (265, 1536, 576)] {
        let left = vec![1.0f32; m * k];
        let weight = Matrix::new(n, k, vec![1.0f32; n * k]);
        let mut out = vec![0.0f32; m * n];
        let mut times: Vec<f64> = (0..20)
            .map(|_| {
                let t = std::time::Instant::now();
                ivon_lora::forward::host::apply(&weight, &left, &mut out);
                t.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{m} {k} {n} {:.1} {:.1}", 2.0 * (m * k * n) as f64 / times[10] / 1e9, 2.0 * (m * k * n) as f64 / times[0] / 1e9);
    }
}
